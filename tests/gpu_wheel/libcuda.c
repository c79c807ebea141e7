/* A driver that finds no GPU. ONNX Runtime's CUDA provider links to it, and so loads and reads its options on a machine
   without one. CUDA's runtime library looks the others up by name. */
#include <stddef.h>

enum { OK = 0, NO_DEVICE = 100, NOT_FOUND = 500, CUDA_13 = 13000 };

int cuInit(unsigned flags) {
    (void)flags;
    return NO_DEVICE;
}

int cuDeviceGetCount(int *count) {
    *count = 0;
    return NO_DEVICE;
}

int cuDriverGetVersion(int *version) {
    *version = CUDA_13;
    return OK;
}

int cuGetProcAddress(const char *name, void **function, int version, unsigned long long flags) {
    (void)name, (void)version, (void)flags;
    *function = NULL;
    return NOT_FOUND;
}

int cuGetProcAddress_v2(const char *name, void **function, int version, unsigned long long flags, int *status) {
    if (status != NULL) *status = 1; /* no such symbol */
    return cuGetProcAddress(name, function, version, flags);
}

int cuTensorMapEncodeTiled(void) { return NO_DEVICE; }
