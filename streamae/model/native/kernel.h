/* The recurrence for one instruction set: included by lstm.c once for each, with these macros.
 *
 *   NAME(f)  the function's name with the set's suffix      WIDE  floats in a vector, VEC its type, MANY vectors of lanes
 *   SET1, LOAD, STORE, FMA (a*b+c), NFMA (c-a*b), ADD, SUB, MUL, DIV, MIN, MAX, ROUND, POW2 (2^n of an integral n)
 *
 * Many windows run with a window in each lane; a few run one by one, with a unit in each lane. Either way every sum of
 * a gate is one chain of fused multiply-adds in the order bias, inputs, state, and lanes never meet: so a window's bits
 * depend neither on its batch nor on the way taken, nor on the instruction set.
 */

#define INLINE static inline __attribute__((always_inline)) TARGET

/* e^x for |x| <= 43 (beyond, of the bound): sums of two of them can be multiplied without overflow. Cephes' expf. */
INLINE VEC NAME(power)(VEC x) {
    x = MAX(MIN(x, SET1(43.0f)), SET1(-43.0f));
    VEC n = ROUND(MUL(x, SET1(1.44269504088896341f)));
    VEC r = NFMA(n, SET1(-2.12194440e-4f), NFMA(n, SET1(0.693359375f), x));
    VEC p = SET1(1.9875691500e-4f);
    p = FMA(p, r, SET1(1.3981999507e-3f));
    p = FMA(p, r, SET1(8.3334519073e-3f));
    p = FMA(p, r, SET1(4.1665795894e-2f));
    p = FMA(p, r, SET1(1.6666665459e-1f));
    p = FMA(p, r, SET1(5.0000001201e-1f));
    return MUL(FMA(MUL(r, r), p, ADD(r, SET1(1.0f))), POW2(n));
}

/* From gate sums to the new c and h. The weights of i, f, o are negated and those of g taken -2 times, so a power is all
 * that is needed: sigmoid(i) tanh(g) = (1 - G) / ((1 + I)(1 + G)), and sigmoid(o) tanh(c) likewise. */
INLINE void NAME(activate)(VEC i, VEC f, VEC g, VEC o, float *c, float *h) {
    const VEC one = SET1(1.0f);
    VEC I = NAME(power)(i), F = NAME(power)(f), G = NAME(power)(g), O = NAME(power)(o);
    VEC cell = ADD(DIV(LOAD(c), ADD(one, F)), DIV(SUB(one, G), MUL(ADD(one, I), ADD(one, G))));
    VEC E = NAME(power)(MUL(cell, SET1(-2.0f)));
    STORE(c, cell);
    STORE(h, DIV(SUB(one, E), MUL(ADD(one, O), ADD(one, E))));
}

/* ---- a window in each of n * WIDE lanes; rows of lanes, [rows][lanes] */

INLINE void NAME(add_rows)(int n, VEC sum[4][MANY], const float *weights, const float *in, int rows) {
    for (int k = 0; k < rows; k++)
        for (int g = 0; g < 4; g++)
            for (int v = 0; v < n; v++)
                sum[g][v] = FMA(SET1(weights[4 * k + g]), LOAD(in + (k * n + v) * WIDE), sum[g][v]);
}

/* One step: from x (rows `inputs`), h and c to c and `next`. The sums begin at the bias, or with `started` at those. */
INLINE void NAME(step)(int n, const struct cell *cell, const float *started, const float *x, int inputs, const float *h,
                       int hidden, float *c, float *next) {
    const int lanes = n * WIDE;
    for (int j = 0; j < hidden; j++) {
        const float *weights = cell->lane + (long)j * (inputs + hidden) * 4;
        VEC sum[4][MANY];
        for (int g = 0; g < 4; g++)
            for (int v = 0; v < n; v++)
                sum[g][v] =
                    started ? LOAD(started + (4 * j + g) * lanes + v * WIDE) : SET1(cell->lane_bias[4 * j + g]);
        NAME(add_rows)(n, sum, weights, x, inputs);
        NAME(add_rows)(n, sum, weights + 4 * inputs, h, hidden);
        for (int v = 0; v < n; v++)
            NAME(activate)(sum[0][v], sum[1][v], sum[2][v], sum[3][v], c + j * lanes + v * WIDE, next + j * lanes + v * WIDE);
    }
}

INLINE void NAME(start)(int n, const struct cell *cell, const float *h, int hidden, float *started) {
    for (int j = 0; j < hidden; j++) {
        VEC sum[4][MANY];
        for (int g = 0; g < 4; g++)
            for (int v = 0; v < n; v++)
                sum[g][v] = SET1(cell->lane_bias[4 * j + g]);
        NAME(add_rows)(n, sum, cell->lane + (long)j * hidden * 4, h, hidden);
        for (int g = 0; g < 4; g++)
            for (int v = 0; v < n; v++)
                STORE(started + ((4 * j + g) * n + v) * WIDE, sum[g][v]);
    }
}

INLINE void NAME(lanes)(int n, const struct network *net, const float *x, int count, float *code, float *frames[2],
                        float *room) {
    const int H = net->hidden, C = net->inputs, Q = net->outputs, lanes = n * WIDE;
    float *row = room, *h = row + C * lanes, *next = h + H * lanes, *c = next + H * lanes;
    float *code_h = c + H * lanes, *code_c = code_h + H * lanes, *started = code_c + H * lanes, *spare;
    memset(room, 0, sizeof(float) * lanes * (C + 3 * H));
    for (int t = 0; t < net->rows; t++) {
        for (int b = 0; b < count; b++)
            for (int q = 0; q < C; q++)
                row[q * lanes + b] = x[((long)b * net->rows + t) * C + q];
        NAME(step)(n, &net->encoder, NULL, row, C, h, H, c, next);
        spare = h, h = next, next = spare;
    }
    memcpy(code_h, h, sizeof(float) * H * lanes);
    memcpy(code_c, c, sizeof(float) * H * lanes);
    for (int b = 0; b < count; b++)
        for (int j = 0; j < H; j++)
            code[b * 2 * H + j] = h[j * lanes + b], code[b * 2 * H + H + j] = c[j * lanes + b];
    for (int d = 0; d < 2; d++) {
        const struct decoder *part = &net->decoders[d];
        if (!part->steps)
            continue;
        NAME(start)(n, &part->input, code_h, H, started);
        memcpy(h, code_h, sizeof(float) * H * lanes);
        memcpy(c, code_c, sizeof(float) * H * lanes);
        for (int t = 0; t < part->steps; t++) {
            NAME(step)(n, &part->state, started, NULL, 0, h, H, c, next);
            spare = h, h = next, next = spare;
            for (int q = 0; q < Q; q++) {
                VEC sum[MANY];
                float out[MANY * WIDE];
                for (int v = 0; v < n; v++)
                    sum[v] = SET1(part->bias[q]);
                for (int j = 0; j < H; j++)
                    for (int v = 0; v < n; v++)
                        sum[v] = FMA(SET1(part->readout[j * net->outputs_padded + q]), LOAD(h + (j * n + v) * WIDE), sum[v]);
                for (int v = 0; v < n; v++)
                    STORE(out + v * WIDE, sum[v]);
                for (int b = 0; b < count; b++)
                    frames[d][((long)b * part->steps + t) * Q + q] = out[b];
            }
        }
    }
}

/* ---- one window, a unit in each lane; rows of units, [rows][4][padded] */

INLINE void NAME(row_sums)(int n, VEC sum[4][MANY], const float *bias, int stride, const float *weights, const float *in,
                           int rows) {
    for (int g = 0; g < 4; g++)
        for (int v = 0; v < n; v++)
            sum[g][v] = LOAD(bias + g * stride + v * WIDE);
    for (int k = 0; k < rows; k++)
        for (int g = 0; g < 4; g++)
            for (int v = 0; v < n; v++)
                sum[g][v] = FMA(LOAD(weights + (4 * (long)k + g) * stride + v * WIDE), SET1(in[k]), sum[g][v]);
}

INLINE void NAME(row_units)(int n, const float *bias, int stride, const float *weights, const float *in, int rows, float *c,
                            float *next) {
    VEC sum[4][MANY];
    NAME(row_sums)(n, sum, bias, stride, weights, in, rows);
    for (int v = 0; v < n; v++)
        NAME(activate)(sum[0][v], sum[1][v], sum[2][v], sum[3][v], c + v * WIDE, next + v * WIDE);
}

INLINE void NAME(row_step)(const float *bias, int padded, const float *weights, const float *in, int rows, float *c,
                           float *next) {
    int p = 0;
    for (; p + MANY_ROW * WIDE <= padded; p += MANY_ROW * WIDE)
        NAME(row_units)(MANY_ROW, bias + p, padded, weights + p, in, rows, c + p, next + p);
    for (; p < padded; p += WIDE)
        NAME(row_units)(1, bias + p, padded, weights + p, in, rows, c + p, next + p);
}

INLINE void NAME(one)(const struct network *net, const float *x, float *code, float *frames[2], float *room) {
    const int H = net->hidden, P = net->padded, C = net->inputs, Q = net->outputs, Z = net->outputs_padded;
    float *in = room, *next = in + C + P, *c = next + C + P, *code_c = c + P, *started = code_c + P, *spare;
    memset(room, 0, sizeof(float) * (2 * C + 3 * P));
    for (int t = 0; t < net->rows; t++) {
        memcpy(in, x + (long)t * C, sizeof(float) * C);
        NAME(row_step)(net->encoder.row_bias, P, net->encoder.row, in, C + H, c, next + C);
        spare = in, in = next, next = spare;
    }
    float *h = in + C;
    next += C;
    memcpy(code, h, sizeof(float) * H);
    memcpy(code + H, c, sizeof(float) * H);
    memcpy(code_c, c, sizeof(float) * P);
    for (int d = 0; d < 2; d++) {
        const struct decoder *part = &net->decoders[d];
        if (!part->steps)
            continue;
        memset(h, 0, sizeof(float) * P);
        memcpy(h, code, sizeof(float) * H);
        memcpy(c, code_c, sizeof(float) * P);
        for (int p = 0; p < P; p += WIDE) {
            VEC sum[4][MANY];
            NAME(row_sums)(1, sum, part->input.row_bias + p, P, part->input.row + p, h, H);
            for (int g = 0; g < 4; g++)
                STORE(started + g * P + p, sum[g][0]);
        }
        for (int t = 0; t < part->steps; t++) {
            NAME(row_step)(started, P, part->state.row, h, H, c, next);
            spare = h, h = next, next = spare;
            for (int q = 0; q < Q; q += WIDE) {
                VEC sum = LOAD(part->bias + q);
                float out[WIDE];
                for (int j = 0; j < H; j++)
                    sum = FMA(LOAD(part->readout + j * Z + q), SET1(h[j]), sum);
                STORE(out, sum);
                for (int each = 0; each < WIDE && q + each < Q; each++)
                    frames[d][(long)t * Q + q + each] = out[each];
            }
        }
    }
}

/* ---- all windows */

static TARGET void NAME(windows)(const struct network *net, const float *x, long count, float *code, float *frames[2],
                                 float *room) {
    const long row = (long)net->rows * net->inputs;
    for (long b = 0; b < count;) {
        const long left = count - b;
        float *at[2];
        for (int d = 0; d < 2; d++)
            at[d] = frames[d] ? frames[d] + b * net->decoders[d].steps * net->outputs : NULL;
        float *z = code + b * 2 * net->hidden;
        int taken;
        if (left < FEW) {
            taken = 1;
            NAME(one)(net, x + b * row, z, at, room);
        } else if (left <= WIDE) {
            taken = (int)left;
            NAME(lanes)(1, net, x + b * row, taken, z, at, room);
        } else if (left < MANY * WIDE) {
            taken = left < 2 * WIDE ? (int)left : 2 * WIDE;
            NAME(lanes)(2, net, x + b * row, taken, z, at, room);
        } else {
            taken = MANY * WIDE;
            NAME(lanes)(MANY, net, x + b * row, taken, z, at, room);
        }
        b += taken;
    }
}

#undef INLINE
#undef TARGET
#undef NAME
#undef WIDE
#undef VEC
#undef MANY
#undef MANY_ROW
#undef FEW
#undef SET1
#undef LOAD
#undef STORE
#undef FMA
#undef NFMA
#undef ADD
#undef SUB
#undef MUL
#undef DIV
#undef MIN
#undef MAX
#undef ROUND
#undef POW2
