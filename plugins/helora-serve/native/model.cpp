// The forward pass of models shaped like Llama, one token at a time, for wasm: no library, no allocation.
//
// Matrices are (rows, columns), row-major, columns a multiple of 32. Weights are float32, or blocks of 32 signed bytes
// with a float32 scale each; activations are then brought to 16-bit integers in -127 … 127, a scale for each block.
#include <stdint.h>
#include <wasm_simd128.h>

#define EXPORT extern "C" __attribute__((visibility("default")))

static const int BLOCK = 32;

static inline float sum_of(v128_t x) {
  return (wasm_f32x4_extract_lane(x, 0) + wasm_f32x4_extract_lane(x, 1)) +
         (wasm_f32x4_extract_lane(x, 2) + wasm_f32x4_extract_lane(x, 3));
}

// e^x to 2 units of the last place: 2^n · e^r with |r| ≤ ln 2 / 2, and Taylor's polynomial of degree 7.
static inline float exponential(float x) {
  if (x < -87.0f) return 0.0f;
  if (x > 88.0f) x = 88.0f;
  const float n = __builtin_rintf(x * 1.44269504f);
  const float r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  union { uint32_t bits; float value; } power = {(uint32_t)((int)n + 127) << 23};
  return p * power.value;
}

// out = weights · x. One row after another, here and below, so that weights are read in the order in which they lie: of two
// rows at once, they come from memory half as fast.
EXPORT void matvec_f32(float* out, int rows, int columns, const float* weights, const float* x) {
  for (int row = 0; row < rows; ++row) {
    const float* w = weights + (long)row * columns;
    v128_t s0 = wasm_f32x4_splat(0), s1 = s0, s2 = s0, s3 = s0;
    for (int k = 0; k < columns; k += 16) {
      s0 = wasm_f32x4_add(s0, wasm_f32x4_mul(wasm_v128_load(w + k), wasm_v128_load(x + k)));
      s1 = wasm_f32x4_add(s1, wasm_f32x4_mul(wasm_v128_load(w + k + 4), wasm_v128_load(x + k + 4)));
      s2 = wasm_f32x4_add(s2, wasm_f32x4_mul(wasm_v128_load(w + k + 8), wasm_v128_load(x + k + 8)));
      s3 = wasm_f32x4_add(s3, wasm_f32x4_mul(wasm_v128_load(w + k + 12), wasm_v128_load(x + k + 12)));
    }
    out[row] = sum_of(wasm_f32x4_add(wasm_f32x4_add(s0, s1), wasm_f32x4_add(s2, s3)));
  }
}

// x as integers with a scale for each block.
EXPORT void quantize(int16_t* integers, float* scales, const float* x, int count) {
  for (int block = 0; block < count / BLOCK; ++block) {
    const float* from = x + block * BLOCK;
    float most = 0;
    for (int i = 0; i < BLOCK; ++i) {
      const float size = __builtin_fabsf(from[i]);
      if (size > most) most = size;
    }
    const float inverse = most > 0 ? 127.0f / most : 0.0f;
    scales[block] = most / 127.0f;
    for (int i = 0; i < BLOCK; ++i) integers[block * BLOCK + i] = (int16_t)__builtin_rintf(from[i] * inverse);
  }
}

static inline v128_t block_sum(const int8_t* w, v128_t x0, v128_t x1, v128_t x2, v128_t x3) {
  const v128_t low = wasm_v128_load(w), high = wasm_v128_load(w + 16);
  const v128_t first = wasm_i32x4_add(wasm_i32x4_dot_i16x8(wasm_i16x8_extend_low_i8x16(low), x0),
                                      wasm_i32x4_dot_i16x8(wasm_i16x8_extend_high_i8x16(low), x1));
  const v128_t second = wasm_i32x4_add(wasm_i32x4_dot_i16x8(wasm_i16x8_extend_low_i8x16(high), x2),
                                       wasm_i32x4_dot_i16x8(wasm_i16x8_extend_high_i8x16(high), x3));
  return wasm_f32x4_convert_i32x4(wasm_i32x4_add(first, second));
}

// A block's product, in four lanes that add up to it.
static inline v128_t scaled_block(const int8_t* w, const float* weight_scale, const int16_t* x, const float* x_scale) {
  const v128_t sum =
      block_sum(w, wasm_v128_load(x), wasm_v128_load(x + 8), wasm_v128_load(x + 16), wasm_v128_load(x + 24));
  return wasm_f32x4_mul(sum, wasm_f32x4_splat(*weight_scale * *x_scale));
}

// out = weights · x, of weights in blocks and of what `quantize` made of x.
EXPORT void matvec_q8(float* out, int rows, int columns, const int8_t* weights, const float* weight_scales,
                      const int16_t* x, const float* x_scales) {
  const int blocks = columns / BLOCK;
  for (int row = 0; row < rows; ++row) {
    const int8_t* w = weights + (long)row * columns;
    const float* ws = weight_scales + (long)row * blocks;
    v128_t s = wasm_f32x4_splat(0), t = s;
    int k = 0;
    for (; k + 1 < blocks; k += 2) {
      s = wasm_f32x4_add(s, scaled_block(w + k * BLOCK, ws + k, x + k * BLOCK, x_scales + k));
      t = wasm_f32x4_add(t, scaled_block(w + (k + 1) * BLOCK, ws + k + 1, x + (k + 1) * BLOCK, x_scales + k + 1));
    }
    if (k < blocks) s = wasm_f32x4_add(s, scaled_block(w + k * BLOCK, ws + k, x + k * BLOCK, x_scales + k));
    out[row] = sum_of(wasm_f32x4_add(s, t));
  }
}

// One row of a matrix in blocks, as float32: a token's embedding.
EXPORT void row_q8(float* out, const int8_t* row, const float* scales, int columns) {
  for (int i = 0; i < columns; ++i) out[i] = row[i] * scales[i / BLOCK];
}

EXPORT void rms_norm(float* out, const float* x, const float* weights, int count, float epsilon) {
  v128_t squares = wasm_f32x4_splat(0);
  for (int i = 0; i < count; i += 4) {
    const v128_t v = wasm_v128_load(x + i);
    squares = wasm_f32x4_add(squares, wasm_f32x4_mul(v, v));
  }
  const v128_t scale = wasm_f32x4_splat(1.0f / __builtin_sqrtf(sum_of(squares) / count + epsilon));
  for (int i = 0; i < count; i += 4)
    wasm_v128_store(out + i, wasm_f32x4_mul(wasm_f32x4_mul(wasm_v128_load(x + i), scale), wasm_v128_load(weights + i)));
}

// Rotary embedding of one position, halves of a head apart: cosines and sines of dim/2 angles.
EXPORT void rotate(float* x, int heads, int dim, const float* cosines, const float* sines) {
  const int half = dim / 2;
  for (int head = 0; head < heads; ++head, x += dim)
    for (int i = 0; i < half; ++i) {
      const float a = x[i], b = x[i + half];
      x[i] = a * cosines[i] - b * sines[i];
      x[i + half] = b * cosines[i] + a * sines[i];
    }
}

// Attention of one position over `length` cached ones, caches (positions, kv heads, dim); `scores` has room for them.
EXPORT void attention(float* out, const float* q, const float* keys, const float* values, float* scores, int length,
                      int heads, int kv_heads, int dim) {
  const int together = heads / kv_heads;
  const long stride = (long)kv_heads * dim;
  const float scale = 1.0f / __builtin_sqrtf((float)dim);
  for (int head = 0; head < heads; ++head) {
    const float* query = q + head * dim;
    const float* key = keys + (long)(head / together) * dim;
    const float* value = values + (long)(head / together) * dim;
    float most = -3.4e38f, total = 0;
    for (int at = 0; at < length; ++at) {
      v128_t s = wasm_f32x4_splat(0);
      for (int i = 0; i < dim; i += 4)
        s = wasm_f32x4_add(s, wasm_f32x4_mul(wasm_v128_load(query + i), wasm_v128_load(key + at * stride + i)));
      scores[at] = sum_of(s) * scale;
      if (scores[at] > most) most = scores[at];
    }
    for (int at = 0; at < length; ++at) total += scores[at] = exponential(scores[at] - most);
    float* to = out + head * dim;
    for (int i = 0; i < dim; i += 4) wasm_v128_store(to + i, wasm_f32x4_splat(0));
    for (int at = 0; at < length; ++at) {
      const v128_t share = wasm_f32x4_splat(scores[at] / total);
      for (int i = 0; i < dim; i += 4)
        wasm_v128_store(to + i, wasm_f32x4_add(wasm_v128_load(to + i),
                                               wasm_f32x4_mul(share, wasm_v128_load(value + at * stride + i))));
    }
  }
}

// gate = silu(gate) · up.
EXPORT void gated(float* gate, const float* up, int count) {
  for (int i = 0; i < count; ++i) gate[i] = gate[i] / (1.0f + exponential(-gate[i])) * up[i];
}

EXPORT void add(float* x, const float* y, int count) {
  for (int i = 0; i < count; i += 4) wasm_v128_store(x + i, wasm_f32x4_add(wasm_v128_load(x + i), wasm_v128_load(y + i)));
}

// The place of the greatest, the first of equal ones.
EXPORT int greatest(const float* x, int count) {
  int best = 0;
  for (int i = 1; i < count; ++i)
    if (x[i] > x[best]) best = i;
  return best;
}
