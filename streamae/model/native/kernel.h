/* The recurrence for one instruction set: included by lstm.c once for each, with these macros.
 *
 *   NAME(f)  the function's name with the set's suffix      WIDE  floats in a vector, VEC its type
 *   MANY     vectors of lanes in a block of windows         FEW   windows that share one reading of the weights
 *   EACH(call)  a switch over w from 1 to FEW, so that w is a constant in each call
 *   SET1, LOAD, STORE, FMA (a*b+c), ADD, SUB, MUL, DIV, MIN, ROUND, SCALE (a * 2^n for an integral n, nearly 0 if tiny)
 *
 * Whole blocks run with a window in each lane; what is left runs a few windows at a time, with a unit in each lane.
 * Either way every sum of a gate is one chain of fused multiply-adds in the order bias, inputs, state, and lanes never
 * meet: so a window's bits depend neither on its batch nor on the way taken, nor on the instruction set.
 */

#define INLINE static inline __attribute__((always_inline)) TARGET

/* 2^x for x <= 41 (beyond, of the bound): three of them can be multiplied without overflow. Cephes' exp2f. */
INLINE VEC NAME(power)(VEC x) {
    x = MIN(x, SET1(41.0f));
    VEC n = ROUND(x), r = SUB(x, n);
    VEC p = SET1(1.535336188319500e-4f);
    p = FMA(p, r, SET1(1.339887440266574e-3f));
    p = FMA(p, r, SET1(9.618437357674640e-3f));
    p = FMA(p, r, SET1(5.550332471162809e-2f));
    p = FMA(p, r, SET1(2.402264791363012e-1f));
    p = FMA(p, r, SET1(6.931472028550421e-1f));
    return SCALE(FMA(p, r, SET1(1.0f)), n);
}

/* From gate sums to the new c and h. The weights of i, f, o are taken -log2(e) times and those of g -2 log2(e) times, so
 * a power of two is all that is needed: with capitals for those powers the new c is c / (1 + F) + (1 - G) / ((1 + I)(1 + G)),
 * over one denominator, for divisions are dear; and h is sigmoid(o) tanh(c) likewise. */
INLINE void NAME(activate)(VEC i, VEC f, VEC g, VEC o, float *c, float *h) {
    const VEC one = SET1(1.0f);
    VEC F = ADD(one, NAME(power)(f)), G = NAME(power)(g), O = ADD(one, NAME(power)(o));
    VEC IG = MUL(ADD(one, NAME(power)(i)), ADD(one, G));
    VEC cell = DIV(FMA(LOAD(c), IG, MUL(SUB(one, G), F)), MUL(F, IG));
    VEC E = NAME(power)(MUL(cell, SET1(-2.88539008177792681f)));
    STORE(c, cell);
    STORE(h, DIV(SUB(one, E), MUL(O, ADD(one, E))));
}

/* ---- a window in each of MANY * WIDE lanes; rows of lanes, [rows][LANES] */

#define LANES (MANY * WIDE)

INLINE void NAME(add_rows)(VEC sum[4][MANY], const float *weights, const float *in, int rows) {
    for (int k = 0; k < rows; k++)
        for (int g = 0; g < 4; g++)
            for (int v = 0; v < MANY; v++)
                sum[g][v] = FMA(SET1(weights[4 * k + g]), LOAD(in + (k * MANY + v) * WIDE), sum[g][v]);
}

/* One step: from x (rows `inputs`), h and c to c and `next`. The sums begin at the bias, or with `started` at those. */
INLINE void NAME(step)(const struct cell *cell, const float *started, const float *x, int inputs, const float *h,
                       int hidden, float *c, float *next) {
    for (int j = 0; j < hidden; j++) {
        const float *weights = cell->lane + (long)j * (inputs + hidden) * 4;
        VEC sum[4][MANY];
        for (int g = 0; g < 4; g++)
            for (int v = 0; v < MANY; v++)
                sum[g][v] = started ? LOAD(started + (4 * j + g) * LANES + v * WIDE) : SET1(cell->lane_bias[4 * j + g]);
        NAME(add_rows)(sum, weights, x, inputs);
        NAME(add_rows)(sum, weights + 4 * inputs, h, hidden);
        for (int v = 0; v < MANY; v++) {
            const int at = j * LANES + v * WIDE;
            NAME(activate)(sum[0][v], sum[1][v], sum[2][v], sum[3][v], c + at, next + at);
        }
    }
}

INLINE void NAME(start)(const struct cell *cell, const float *h, int hidden, float *started) {
    for (int j = 0; j < hidden; j++) {
        VEC sum[4][MANY];
        for (int g = 0; g < 4; g++)
            for (int v = 0; v < MANY; v++)
                sum[g][v] = SET1(cell->lane_bias[4 * j + g]);
        NAME(add_rows)(sum, cell->lane + (long)j * hidden * 4, h, hidden);
        for (int g = 0; g < 4; g++)
            for (int v = 0; v < MANY; v++)
                STORE(started + (4 * j + g) * LANES + v * WIDE, sum[g][v]);
    }
}

/* One frame from h: out is frame[window * stride + q]. */
INLINE void NAME(read)(const struct network *net, const struct decoder *part, const float *h, float *frame, long stride) {
    for (int q = 0; q < net->outputs; q++) {
        VEC sum[MANY];
        float out[LANES];
        for (int v = 0; v < MANY; v++)
            sum[v] = SET1(part->bias[q]);
        for (int j = 0; j < net->hidden; j++)
            for (int v = 0; v < MANY; v++)
                sum[v] = FMA(SET1(part->readout[j * net->outputs_padded + q]), LOAD(h + (j * MANY + v) * WIDE), sum[v]);
        for (int v = 0; v < MANY; v++)
            STORE(out + v * WIDE, sum[v]);
        for (int b = 0; b < LANES; b++)
            frame[b * stride + q] = out[b];
    }
}

static TARGET void NAME(block)(const struct network *net, const float *x, float *code, float *const frames[2], float *room) {
    const int H = net->hidden, C = net->inputs, Q = net->outputs;
    float *row = room, *h = row + C * LANES, *next = h + H * LANES, *c = next + H * LANES;
    float *code_h = c + H * LANES, *code_c = code_h + H * LANES, *started = code_c + H * LANES, *spare;
    memset(room, 0, sizeof(float) * LANES * (C + 3 * H));
    for (int t = 0; t < net->rows; t++) {
        for (int b = 0; b < LANES; b++)
            for (int q = 0; q < C; q++)
                row[q * LANES + b] = x[((long)b * net->rows + t) * C + q];
        NAME(step)(&net->encoder, NULL, row, C, h, H, c, next);
        spare = h, h = next, next = spare;
    }
    memcpy(code_h, h, sizeof(float) * H * LANES);
    memcpy(code_c, c, sizeof(float) * H * LANES);
    for (int b = 0; b < LANES; b++)
        for (int j = 0; j < H; j++)
            code[b * 2 * H + j] = h[j * LANES + b], code[b * 2 * H + H + j] = c[j * LANES + b];
    for (int d = 0; d < 2; d++) {
        const struct decoder *part = &net->decoders[d];
        if (!part->steps)
            continue;
        NAME(start)(&part->input, code_h, H, started);
        memcpy(h, code_h, sizeof(float) * H * LANES);
        memcpy(c, code_c, sizeof(float) * H * LANES);
        for (int t = 0; t < part->steps; t++) {
            NAME(step)(&part->state, started, NULL, 0, h, H, c, next);
            spare = h, h = next, next = spare;
            NAME(read)(net, part, h, frames[d] + (long)t * Q, (long)part->steps * Q);
        }
    }
}

/* ---- w windows, a unit in each lane; weights in blocks of units, [padded / WIDE][rows][4][WIDE] */

/* Gate sums of a block of units; `in` has a row of `stride` floats for each window, `bias` one of `other` (0: the same). */
INLINE void NAME(unit_sums)(int w, VEC sum[FEW][4], const float *bias, int other, const float *weights, const float *in,
                            int stride, int rows) {
    for (int m = 0; m < w; m++)
        for (int g = 0; g < 4; g++)
            sum[m][g] = LOAD(bias + m * other + g * WIDE);
    for (int k = 0; k < rows; k++) {
        VEC each[FEW];
        for (int m = 0; m < w; m++)
            each[m] = SET1(in[m * stride + k]);
        for (int g = 0; g < 4; g++) {
            const VEC weight = LOAD(weights + (4 * k + g) * WIDE);
            for (int m = 0; m < w; m++)
                sum[m][g] = FMA(weight, each[m], sum[m][g]);
        }
    }
}

INLINE void NAME(unit_step)(int w, int padded, const float *bias, int other, const float *weights, const float *in,
                            int stride, int rows, float *c, float *next) {
    for (int p = 0; p < padded; p += WIDE) {
        VEC sum[FEW][4];
        NAME(unit_sums)(w, sum, bias + 4 * p, other, weights + 4L * p * rows, in, stride, rows);
        for (int m = 0; m < w; m++)
            NAME(activate)(sum[m][0], sum[m][1], sum[m][2], sum[m][3], c + m * padded + p, next + m * stride + p);
    }
}

INLINE void NAME(unit_read)(int w, const struct network *net, const struct decoder *part, const float *h, int stride,
                            float *frame, long other) {
    for (int q = 0; q < net->outputs; q += WIDE) {
        VEC sum[FEW];
        float out[WIDE];
        for (int m = 0; m < w; m++)
            sum[m] = LOAD(part->bias + q);
        for (int j = 0; j < net->hidden; j++) {
            const VEC weight = LOAD(part->readout + j * net->outputs_padded + q);
            for (int m = 0; m < w; m++)
                sum[m] = FMA(weight, SET1(h[m * stride + j]), sum[m]);
        }
        for (int m = 0; m < w; m++) {
            STORE(out, sum[m]);
            for (int each = 0; each < WIDE && q + each < net->outputs; each++)
                frame[m * other + q + each] = out[each];
        }
    }
}

INLINE void NAME(some)(int w, const struct network *net, const float *x, float *code, float *const frames[2], float *room) {
    const int H = net->hidden, P = net->padded, C = net->inputs, Q = net->outputs, S = C + P;
    float *in = room, *next = in + w * S, *c = next + w * S, *code_c = c + w * P, *started = code_c + w * P, *spare;
    memset(room, 0, sizeof(float) * w * (2 * S + P));
    for (int t = 0; t < net->rows; t++) {
        for (int m = 0; m < w; m++)
            memcpy(in + m * S, x + ((long)m * net->rows + t) * C, sizeof(float) * C);
        NAME(unit_step)(w, P, net->encoder.row_bias, 0, net->encoder.row, in, S, C + H, c, next + C);
        spare = in, in = next, next = spare;
    }
    float *h = in + C;
    next += C;
    memcpy(code_c, c, sizeof(float) * w * P);
    for (int m = 0; m < w; m++) {
        memcpy(code + m * 2 * H, h + m * S, sizeof(float) * H);
        memcpy(code + m * 2 * H + H, c + m * P, sizeof(float) * H);
    }
    for (int d = 0; d < 2; d++) {
        const struct decoder *part = &net->decoders[d];
        if (!part->steps)
            continue;
        for (int m = 0; m < w; m++)
            memcpy(h + m * S, code + m * 2 * H, sizeof(float) * H);
        memcpy(c, code_c, sizeof(float) * w * P);
        for (int p = 0; p < P; p += WIDE) {
            VEC sum[FEW][4];
            NAME(unit_sums)(w, sum, part->input.row_bias + 4 * p, 0, part->input.row + 4L * p * H, h, S, H);
            for (int m = 0; m < w; m++)
                for (int g = 0; g < 4; g++)
                    STORE(started + 4 * (m * P + p) + g * WIDE, sum[m][g]);
        }
        for (int t = 0; t < part->steps; t++) {
            NAME(unit_step)(w, P, started, 4 * P, part->state.row, h, S, H, c, next);
            spare = h, h = next, next = spare;
            NAME(unit_read)(w, net, part, h, S, frames[d] + (long)t * Q, (long)part->steps * Q);
        }
    }
}

/* ---- all windows */

static TARGET void NAME(windows)(const struct network *net, const float *x, long count, float *code, float *const frames[2],
                                 float *room) {
    for (long b = 0; b < count;) {
        const long left = count - b;
        const float *from = x + b * net->rows * net->inputs;
        float *at[2], *z = code + b * 2 * net->hidden;
        for (int d = 0; d < 2; d++)
            at[d] = frames[d] ? frames[d] + b * net->decoders[d].steps * net->outputs : NULL;
        if (left >= LANES) {
            NAME(block)(net, from, z, at, room);
            b += LANES;
        } else { /* in parts as equal as may be */
            const long parts = (left + FEW - 1) / FEW, w = (left + parts - 1) / parts;
            EACH(NAME(some)(w, net, from, z, at, room))
            b += w;
        }
    }
}

#undef LANES
#undef INLINE
#undef TARGET
#undef NAME
#undef WIDE
#undef VEC
#undef MANY
#undef FEW
#undef EACH
#undef SET1
#undef LOAD
#undef STORE
#undef FMA
#undef ADD
#undef SUB
#undef MUL
#undef DIV
#undef MIN
#undef MAX
#undef ROUND
#undef SCALE
