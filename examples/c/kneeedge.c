/* Run a model file of kneeedge's from C, by ONNX Runtime's C API.
 *
 *   ./kneeedge MODEL.onnx PICTURE.pgm...   answers grey pictures
 *   ./kneeedge MODEL.onnx VECTORS          holds this program against `kneeedge info MODEL.onnx --test-vectors VECTORS`
 *
 * Exits 1 where a vector is missed or a picture cannot be read. Memory is left to the end of the program.
 */

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <onnxruntime_c_api.h>

/* The resize is exact where each operation is rounded to double precision, once: no x87, and no fused multiply-add. */
_Static_assert(FLT_EVAL_METHOD == 0, "compile for SSE2: -msse2 -mfpmath=sse");

#define RESIZE "triangle-22bit-across-then-down"
#define SPEC_FORMAT 3
#define UNIT 4194304 /* 2^22: weights are whole multiples of 1 / UNIT */
#define MAX_CLASSES 64

static _Noreturn void die(const char *where, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "error: %s: ", where);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void *memory(size_t n, size_t size) {
    void *block = calloc(n, size);
    if (block == NULL) die("memory", "it does not suffice");
    return block;
}

/* ---- Files ------------------------------------------------------------------------------------------------------- */

typedef struct {
    int width, height;
    uint8_t *pixels; /* grey levels in rows from the top */
} Picture;

/* All bytes of a file, with a zero behind them. */
static char *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) die(path, "it cannot be opened");
    size_t room = 1 << 16;
    char *bytes = memory(room, 1);
    *size = 0;
    for (size_t n; (n = fread(bytes + *size, 1, room - *size - 1, file)) > 0;) {
        *size += n;
        if (*size == room - 1 && (bytes = realloc(bytes, room *= 2)) == NULL) die(path, "memory does not suffice");
    }
    if (ferror(file)) die(path, "it cannot be read");
    fclose(file);
    bytes[*size] = '\0';
    return bytes;
}

/* The next number of a PGM's header, behind white space and comments. */
static int header_number(const char *path, char **at) {
    for (;; (*at)++) {
        if (**at == '#') *at += strcspn(*at, "\n");
        if (**at == '\0' || strchr(" \t\r\n", **at) == NULL) break;
    }
    char *end;
    long number = strtol(*at, &end, 10);
    if (end == *at || **at == '-' || **at == '+' || number < 1 || number > 65535) die(path, "its header is no PGM's");
    *at = end;
    return (int)number;
}

/* A binary PGM of 8 bits: "P5", width, height, 255, one white space, then the pixels. */
static Picture read_pgm(const char *path) {
    size_t size;
    char *bytes = read_file(path, &size);
    if (strncmp(bytes, "P5", 2) != 0) die(path, "it is no binary PGM (P5)");
    char *at = bytes + 2;
    Picture picture = {0};
    picture.width = header_number(path, &at);
    picture.height = header_number(path, &at);
    int top = header_number(path, &at);
    if (top != 255) die(path, "its white is %d, not 255: write it with 8 bits", top);
    picture.pixels = (uint8_t *)++at;
    if (at > bytes + size || (size_t)(bytes + size - at) != (size_t)picture.width * picture.height)
        die(path, "its pixels are not width x height");
    return picture;
}

static char *joined(const char *folder, const char *name) {
    size_t size = strlen(folder) + strlen(name) + 2;
    char *path = memory(size, 1);
    snprintf(path, size, "%s/%s", folder, name);
    return path;
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

static cJSON *read_json(const char *where, const char *text) {
    cJSON *record = cJSON_Parse(text);
    if (record == NULL) die(where, "its JSON is damaged");
    return record;
}

static const cJSON *field(const char *where, const cJSON *record, const char *name) {
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(record, name);
    if (value == NULL) die(where, "it lacks the field %s", name);
    return value;
}

static double number(const char *where, const cJSON *record, const char *name) {
    const cJSON *value = field(where, record, name);
    if (!cJSON_IsNumber(value)) die(where, "its field %s is no number", name);
    return value->valuedouble;
}

static const char *text(const char *where, const cJSON *record, const char *name) {
    const cJSON *value = field(where, record, name);
    if (!cJSON_IsString(value)) die(where, "its field %s is no text", name);
    return value->valuestring;
}

/* ---- From grey pixels to the network's input, as kneeedge/model/spec.py has it under RESIZE ---------------------- */

/* The weights, in units of 1 / UNIT, of output pixel i of n_out; returns how many, and the first input pixel. */
static int weights_of(int n_in, int n_out, int i, double *triangle, int64_t *weights, int *first) {
    double scale = (double)n_in / n_out;
    double support = fmax(1.0, scale); /* half the width of the triangle */
    double centre = (i + 0.5) * scale;
    *first = (int)fmax(0.0, floor(centre - support + 0.5));
    int n = (int)fmin(n_in, floor(centre + support + 0.5)) - *first;
    double total = 0.0;
    for (int k = 0; k < n; k++) {
        triangle[k] = fmax(0.0, 1.0 - fabs((*first + k - centre + 0.5) * (1.0 / support)));
        total += triangle[k];
    }
    for (int k = 0; k < n; k++) weights[k] = (int64_t)floor(triangle[k] / total * UNIT + 0.5);
    return n;
}

/* One axis, of n_in to n_out pixels that lie `step` apart, in each of n_lines lines. */
static void resize_axis(const uint8_t *in, int n_in, size_t step_in, size_t line_in, uint8_t *out, int n_out,
                        size_t step_out, size_t line_out, int n_lines) {
    double *triangle = memory(n_in, sizeof *triangle);
    int64_t *weights = memory(n_in, sizeof *weights);
    for (int i = 0; i < n_out; i++) {
        int first;
        int n = weights_of(n_in, n_out, i, triangle, weights, &first);
        for (int line = 0; line < n_lines; line++) {
            const uint8_t *pixel = in + line * line_in + first * step_in;
            int64_t sum = UNIT / 2; /* rounds half up */
            for (int k = 0; k < n; k++) sum += weights[k] * pixel[k * step_in];
            int64_t level = sum / UNIT;
            out[line * line_out + i * step_out] = level > 255 ? 255 : (uint8_t)level;
        }
    }
    free(triangle);
    free(weights);
}

/* First across and then down; between the two the pixels are rounded to 8 bits. */
static Picture resized(Picture from, int width, int height) {
    uint8_t *across = memory((size_t)width * from.height, 1);
    Picture to = {width, height, memory((size_t)width * height, 1)};
    resize_axis(from.pixels, from.width, 1, from.width, across, width, 1, width, from.height);
    resize_axis(across, from.height, width, 1, to.pixels, height, width, 1, width);
    free(across);
    return to;
}

/* The network's input: stretched to size x size, or its longer side brought to it and centred on black. */
static Picture to_input(Picture picture, int size, bool is_padded) {
    if (!is_padded) return resized(picture, size, size);
    double longer = fmax(picture.width, picture.height);
    int width = (int)fmax(1.0, nearbyint(picture.width * (double)size / longer)); /* half to even */
    int height = (int)fmax(1.0, nearbyint(picture.height * (double)size / longer));
    Picture small = resized(picture, width, height);
    Picture square = {size, size, memory((size_t)size * size, 1)};
    uint8_t *corner = square.pixels + (size - height) / 2 * size + (size - width) / 2;
    for (int y = 0; y < height; y++) memcpy(corner + y * size, small.pixels + y * width, width);
    free(small.pixels);
    return square;
}

/* ---- The model --------------------------------------------------------------------------------------------------- */

typedef struct {
    OrtSession *session;
    bool resizes;      /* an any-size file: its input is `picture`, of any size */
    bool has_distance; /* else it never abstains */
    int n_classes, positive;
    const char *classes[MAX_CLASSES];
    int size;
    bool is_padded;
    double threshold, limit;
    double low, high; /* from the one to below the other a person is to answer */
} Model;

typedef struct {
    float logits[MAX_CLASSES], probabilities[MAX_CLASSES], distance;
    const char *answer; /* the class; NULL where the model abstains, or a person is to answer */
} Answer;

static const OrtApi *ort;

/* Raise what ONNX Runtime says. */
static void check(OrtStatus *status) {
    if (status != NULL) die("ONNX Runtime", "%s", ort->GetErrorMessage(status));
}

/* The JSON under `kneeedge` in the file's metadata. */
static cJSON *read_spec(const char *path, const OrtSession *session, OrtAllocator *allocator) {
    OrtModelMetadata *metadata;
    char *json;
    check(ort->SessionGetModelMetadata(session, &metadata));
    check(ort->ModelMetadataLookupCustomMetadataMap(metadata, allocator, "kneeedge", &json));
    if (json == NULL) die(path, "it is no model file of kneeedge's");
    cJSON *spec = read_json(path, json);
    if (number(path, spec, "format") != SPEC_FORMAT) die(path, "its spec is not of format %d", SPEC_FORMAT);
    return spec;
}

static Model open_model(const char *path) {
    Model model = {0};
    OrtEnv *environment;
    OrtSessionOptions *options;
    OrtAllocator *allocator;
    check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "kneeedge", &environment));
    check(ort->CreateSessionOptions(&options));
    check(ort->CreateSession(environment, path, options, &model.session)); /* on Windows the path is wchar_t */
    check(ort->GetAllocatorWithDefaultOptions(&allocator));
    const cJSON *spec = read_spec(path, model.session, allocator);
    const cJSON *classes = field(path, spec, "classes");
    const char *positive = text(path, spec, "positive");
    const cJSON *class;
    cJSON_ArrayForEach(class, classes) {
        if (model.n_classes == MAX_CLASSES || !cJSON_IsString(class)) die(path, "its classes are not read");
        if (strcmp(class->valuestring, positive) == 0) model.positive = model.n_classes;
        model.classes[model.n_classes++] = class->valuestring;
    }
    const cJSON *pixels = field(path, spec, "pixel_path");
    if (strcmp(text(path, pixels, "resize"), RESIZE) != 0) die(path, "it wants another resize than " RESIZE);
    const char *fit = text(path, pixels, "fit");
    model.is_padded = strcmp(fit, "pad") == 0;
    if (!model.is_padded && strcmp(fit, "stretch") != 0) die(path, "it wants the fit %s, which is not had", fit);
    model.size = (int)number(path, pixels, "size");
    model.threshold = number(path, spec, "threshold");
    const cJSON *novelty = field(path, spec, "novelty");
    model.has_distance = !cJSON_IsNull(novelty);
    model.limit = model.has_distance ? number(path, novelty, "limit") : INFINITY;
    const cJSON *certified = cJSON_GetObjectItemCaseSensitive(spec, "certified");
    model.low = certified ? number(path, certified, "low") : 0;
    model.high = certified ? number(path, certified, "high") : 0;
    char *name;
    check(ort->SessionGetInputName(model.session, 0, allocator, &name));
    model.resizes = strcmp(name, "picture") == 0;
    return model;
}

/* Whether the probability lies between certified limits. */
static bool is_referred(const Model *model, const Answer *seen) {
    double probability = seen->probabilities[model->positive];
    return probability >= model->low && probability < model->high;
}

/* The class, or NULL where the image is too unlike the training images or between certified limits. */
static const char *decide(const Model *model, const Answer *seen) {
    if (model->has_distance && !(seen->distance <= model->limit)) return NULL;
    if (is_referred(model, seen)) return NULL;
    if (model->n_classes == 2) {
        bool is_positive = seen->probabilities[model->positive] >= model->threshold;
        return model->classes[is_positive ? model->positive : 1 - model->positive];
    }
    int best = 0;
    for (int k = 1; k < model->n_classes; k++)
        if (seen->probabilities[k] > seen->probabilities[best]) best = k;
    return model->classes[best];
}

/* Copies n numbers of an output of one image. */
static void copy_output(OrtValue *value, float *to, int n) {
    float *data;
    OrtTensorTypeAndShapeInfo *shape;
    size_t count;
    check(ort->GetTensorTypeAndShape(value, &shape));
    check(ort->GetTensorShapeElementCount(shape, &count));
    if (count != (size_t)n) die("the model", "an output has %zu numbers, not %d", count, n);
    check(ort->GetTensorMutableData(value, (void **)&data));
    memcpy(to, data, n * sizeof *to);
    for (int i = 0; i < n; i++)
        if (!isfinite(to[i])) die("the model", "its answer is no number");
    ort->ReleaseTensorTypeAndShapeInfo(shape);
    ort->ReleaseValue(value);
}

/* What the model says of a picture: grey pixels of any size where it resizes them itself, else its input. */
static Answer run(const Model *model, Picture input) {
    const char *input_names[] = {model->resizes ? "picture" : "image"};
    const char *output_names[] = {"logits", "probabilities", "distance"};
    size_t n_outputs = model->has_distance ? 3 : 2;
    int64_t shape[] = {1, 1, input.height, input.width};
    OrtMemoryInfo *place;
    OrtValue *tensor;
    OrtValue *outputs[3] = {NULL, NULL, NULL};
    Answer seen = {0};
    check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &place));
    check(ort->CreateTensorWithDataAsOrtValue(place, input.pixels, (size_t)input.width * input.height, shape, 4,
                                              ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, &tensor));
    check(ort->Run(model->session, NULL, input_names, (const OrtValue *const *)&tensor, 1, output_names, n_outputs,
                   outputs));
    copy_output(outputs[0], seen.logits, model->n_classes);
    copy_output(outputs[1], seen.probabilities, model->n_classes);
    if (model->has_distance) copy_output(outputs[2], &seen.distance, 1);
    seen.answer = decide(model, &seen);
    ort->ReleaseValue(tensor);
    ort->ReleaseMemoryInfo(place);
    return seen;
}

static Answer answer(const Model *model, Picture grey) {
    return run(model, model->resizes ? grey : to_input(grey, model->size, model->is_padded));
}

static void say(const Model *model, const Answer *seen) {
    bool is_far = model->has_distance && !(seen->distance <= model->limit);
    if (seen->answer == NULL && !is_far) {
        double probability = seen->probabilities[model->positive];
        printf("no answer: probability %.6f is between %.6f and %.6f\n", probability, model->low, model->high);
        return;
    }
    if (seen->answer == NULL) {
        printf("no answer: distance %#.6g is beyond %#.6g\n", seen->distance, model->limit);
        return;
    }
    double probability = seen->probabilities[model->positive];
    printf("%s, probability of %s %.6f", seen->answer, model->classes[model->positive], probability);
    if (model->has_distance) printf(", distance %#.6g", seen->distance);
    putchar('\n');
}

/* ---- Test vectors ------------------------------------------------------------------------------------------------ */

static const char *file_of(const char *folder, const cJSON *vector, const char *step) {
    return joined(folder, text(folder, field(folder, vector, step), "name"));
}

/* The largest change of n numbers from those that a vector lists. */
static double change_of(const char *where, const float *seen, int n, const cJSON *expected) {
    if (cJSON_GetArraySize(expected) != n) die(where, "a vector is not of %d classes", n);
    double largest = 0.0;
    for (int i = 0; i < n; i++) {
        const cJSON *value = cJSON_GetArrayItem(expected, i);
        if (!cJSON_IsNumber(value)) die(where, "a vector holds what is no number");
        largest = fmax(largest, fabs(seen[i] - value->valuedouble));
    }
    return largest;
}

/* Says what is wrong with one vector: every step must give what the index says. */
static bool check_vector(const Model *model, const char *folder, const cJSON *index, const cJSON *vector,
                         double *most_logits, double *most_distance) {
    Picture grey = read_pgm(file_of(folder, vector, "grey"));
    Picture expected = read_pgm(file_of(folder, vector, "input"));
    Picture input = to_input(grey, model->size, model->is_padded);
    Answer seen = answer(model, grey);
    const cJSON *class = field(folder, vector, "answer");
    const cJSON *distance = field(folder, vector, "distance");
    double logits = change_of(folder, seen.logits, model->n_classes, field(folder, vector, "logits"));
    double shares = change_of(folder, seen.probabilities, model->n_classes, field(folder, vector, "probabilities"));
    double further = cJSON_IsNumber(distance) ? fabs(seen.distance - distance->valuedouble) : 0.0;
    *most_logits = fmax(*most_logits, logits);
    *most_distance = fmax(*most_distance, further);

    char problems[512] = "";
    size_t room = sizeof problems, used = 0;
#define PROBLEM(...) (used += (size_t)snprintf(problems + used, room - used, __VA_ARGS__))
    bool is_square = expected.width == input.width && expected.height == input.height;
    if (!is_square || memcmp(expected.pixels, input.pixels, (size_t)input.width * input.height) != 0)
        PROBLEM("; the input differs");
    if (!(logits <= number(folder, index, "logit_tolerance"))) PROBLEM("; logits off by %.1e", logits);
    if (!(shares <= number(folder, index, "probability_tolerance"))) PROBLEM("; probabilities off by %.1e", shares);
    if (cJSON_IsNumber(distance) != model->has_distance) PROBLEM("; a distance on one side alone");
    if (model->has_distance && !(further <= number(folder, index, "distance_tolerance")))
        PROBLEM("; distance off by %.1e", further);
    const char *wanted = cJSON_IsString(class) ? class->valuestring : NULL;
    if ((wanted == NULL) != (seen.answer == NULL) || (wanted != NULL && strcmp(wanted, seen.answer) != 0))
        PROBLEM("; another answer");

    printf("%s  %s: ", used ? "MISS" : "ok  ", text(folder, vector, "name"));
    if (used)
        printf("%s\n", problems + 2);
    else
        say(model, &seen);
    free(input.pixels);
    return !used;
}

static bool check_vectors(const Model *model, const char *folder) {
    size_t size;
    const cJSON *index = read_json(folder, read_file(joined(folder, "vectors.json"), &size));
    if (strcmp(text(folder, index, "format"), "kneeedge-vectors/1") != 0) die(folder, "it is of another format");
    const cJSON *vectors = field(folder, index, "vectors");
    const cJSON *vector;
    int n = cJSON_GetArraySize(vectors), n_right = 0;
    double logits = 0.0, distance = 0.0;
    if (n == 0) die(folder, "it holds no vectors");
    cJSON_ArrayForEach(vector, vectors) n_right += check_vector(model, folder, index, vector, &logits, &distance);
    printf("%d of %d vectors; largest change of a logit %.1e, of a distance %.1e\n", n_right, n, logits, distance);
    return n_right == n;
}

static bool has_vectors(const char *place) {
    FILE *file = fopen(joined(place, "vectors.json"), "rb");
    if (file != NULL) fclose(file);
    return file != NULL;
}

int main(int n_arguments, char **arguments) {
    if (n_arguments < 3) {
        fprintf(stderr, "usage: %s MODEL.onnx VECTORS|PICTURE.pgm...\n", arguments[0]);
        return 2;
    }
    ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (ort == NULL) die("ONNX Runtime", "it is older than the header that this program was built with");
    bool is_right = true;
    Model model = open_model(arguments[1]);
    for (int i = 2; i < n_arguments; i++) {
        if (has_vectors(arguments[i])) {
            is_right = check_vectors(&model, arguments[i]) && is_right;
            continue;
        }
        Answer seen = answer(&model, read_pgm(arguments[i]));
        printf("%s: ", arguments[i]);
        say(&model, &seen);
    }
    fprintf(stderr, "Research use only. Not a medical device; not for diagnosis.\n");
    return is_right ? 0 : 1;
}
