/* An LSTM encoder with up to two unconditional decoders over many windows, in AVX2 or AVX-512.
 *
 * Optional: streamae.model.native looks for it, and everything runs without it. No Python in here: it is called through
 * ctypes, which leaves the interpreter to other threads meanwhile. Weights come packed as kernel.h reads them.
 */

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define SUPPORTED 1
#else
#define SUPPORTED 0
#endif

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

struct cell {
    const float *lane, *lane_bias; /* [hidden][inputs + hidden][4], [hidden][4] */
    const float *row, *row_bias;   /* in blocks of W units, the floats in a vector: [blocks][inputs + hidden][4][W], [blocks][4][W] */
};

struct decoder {
    struct cell input, state;      /* of the code, and of the state */
    const float *readout, *bias;   /* [hidden][outputs_padded], [outputs_padded] */
    int steps;
};

struct network {
    int hidden, padded, inputs, outputs, outputs_padded, rows;
    struct cell encoder;
    struct decoder decoders[2];
};

#if SUPPORTED

#define CASE(n, call) case n: { enum { w = n }; call; break; }
#define CASES_3(call) switch (w) { CASE(1, call) CASE(2, call) CASE(3, call) }
#define CASES_6(call) switch (w) { CASE(1, call) CASE(2, call) CASE(3, call) CASE(4, call) CASE(5, call) CASE(6, call) }

#define TARGET __attribute__((target("avx2,fma")))
#define NAME(f) f##_avx2
#define WIDE 8
#define VEC __m256
#define MANY 3     /* 12 sums, 3 rows, 1 weight: the 16 registers */
#define FEW 3      /* likewise */
#define EACH(call) CASES_3(call)
#define SET1 _mm256_set1_ps
#define LOAD _mm256_loadu_ps
#define STORE _mm256_storeu_ps
#define FMA _mm256_fmadd_ps
#define ADD _mm256_add_ps
#define SUB _mm256_sub_ps
#define MUL _mm256_mul_ps
#define DIV _mm256_div_ps
#define MIN _mm256_min_ps
#define ROUND(x) _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define SCALE(a, n) \
    _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32( \
        _mm256_add_epi32(_mm256_cvtps_epi32(_mm256_max_ps(n, _mm256_set1_ps(-126.0f))), _mm256_set1_epi32(127)), 23)))
#include "kernel.h"

#define TARGET __attribute__((target("avx512f")))
#define NAME(f) f##_avx512
#define WIDE 16
#define VEC __m512
#define MANY 4
#define FEW 6      /* 24 sums, 6 values, 1 weight: of 32 registers */
#define EACH(call) CASES_6(call)
#define SET1 _mm512_set1_ps
#define LOAD _mm512_loadu_ps
#define STORE _mm512_storeu_ps
#define FMA _mm512_fmadd_ps
#define ADD _mm512_add_ps
#define SUB _mm512_sub_ps
#define MUL _mm512_mul_ps
#define DIV _mm512_div_ps
#define MIN _mm512_min_ps
#define ROUND(x) _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define SCALE _mm512_scalef_ps
#include "kernel.h"

#define LANES_MAX 64
#define FEW_MAX 6
#define FLUSH 0x8040 /* denormals are zero, in and out: the same bits in whatever thread */

#endif

/* The best instruction set here: 0 none, 2 AVX2, 3 AVX-512. */
EXPORT int streamae_lstm_level(void) {
#if SUPPORTED
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f"))
        return 3;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return 2;
#endif
    return 0;
}

/* x[count][rows][inputs] -> code[count][2 * hidden] (h, c) and, for decoders with steps, frames[count][steps][outputs] in
 * the decoder's order. 0 if done, -1 without memory, -2 where the level is not supported. */
EXPORT int streamae_lstm_windows(int level, const struct network *net, const float *x, long count, float *code,
                                 float *first, float *second) {
#if SUPPORTED
    if (level < 2 || level > streamae_lstm_level())
        return -2;
    float *frames[2] = {first, second};
    const size_t lanes = sizeof(float) * LANES_MAX * ((size_t)net->inputs + 9 * (size_t)net->hidden);
    const size_t rows = sizeof(float) * FEW_MAX * (2 * (size_t)net->inputs + 8 * (size_t)net->padded);
    void *room;
    if (posix_memalign(&room, 64, lanes > rows ? lanes : rows))
        return -1;
    const unsigned int flags = _mm_getcsr();
    _mm_setcsr(flags | FLUSH);
    (level == 3 ? windows_avx512 : windows_avx2)(net, x, count, code, frames, room);
    _mm_setcsr(flags);
    free(room);
    return 0;
#else
    (void)level, (void)net, (void)x, (void)count, (void)code, (void)first, (void)second;
    return -2;
#endif
}
