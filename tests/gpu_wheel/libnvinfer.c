/* What ONNX Runtime's TensorRT provider links to, of libnvinfer and libnvonnxparser: it makes nothing and knows no plugin. */
#include <stddef.h>

enum { TENSORRT_10_13 = 101300 };

static void *nothing(void) { return NULL; }

/* The registry is a C++ object, whose first word leads to its virtual functions. */
static void *(*methods[])(void) = {
    nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing,
    nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing,
};
static void *registry = methods;

void *getPluginRegistry(void) { return &registry; }
int getInferLibVersion(void) { return TENSORRT_10_13; }
void *createInferBuilder_INTERNAL(void) { return NULL; }
void *createInferRefitter_INTERNAL(void) { return NULL; }
void *createInferRuntime_INTERNAL(void) { return NULL; }
void *createNvOnnxParser_INTERNAL(void) { return NULL; }
void *createNvOnnxParserRefitter_INTERNAL(void) { return NULL; }
