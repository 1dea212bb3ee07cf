// Rows of FP32 numbers in vector registers: 16 with AVX-512, 8 with AVX2, as the compiler is told.
//
// The order of every sum is fixed here and does not depend on how many rows or tokens a call has, so that a token has
// the same bits by itself and among others.

#pragma once

#include <immintrin.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace octavo {

#ifdef __AVX512F__
using Lanes = __m512;
constexpr int kLanes = 16;
inline Lanes load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, Lanes v) { _mm512_storeu_ps(p, v); }
inline Lanes all(float x) { return _mm512_set1_ps(x); }
inline Lanes fma(Lanes a, Lanes b, Lanes c) { return _mm512_fmadd_ps(a, b, c); }
inline Lanes larger(Lanes a, Lanes b) { return _mm512_max_ps(a, b); }
inline Lanes smaller(Lanes a, Lanes b) { return _mm512_min_ps(a, b); }
inline Lanes nearest(Lanes v) { return _mm512_roundscale_ps(v, 0); }
inline Lanes power_of_two(Lanes n) {  // 2^n of whole n
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}
inline __m256 folded(Lanes v) {
  return _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
}
#else
using Lanes = __m256;
constexpr int kLanes = 8;
inline Lanes load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, Lanes v) { _mm256_storeu_ps(p, v); }
inline Lanes all(float x) { return _mm256_set1_ps(x); }
inline Lanes fma(Lanes a, Lanes b, Lanes c) { return _mm256_fmadd_ps(a, b, c); }
inline Lanes larger(Lanes a, Lanes b) { return _mm256_max_ps(a, b); }
inline Lanes smaller(Lanes a, Lanes b) { return _mm256_min_ps(a, b); }
inline Lanes nearest(Lanes v) { return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Lanes power_of_two(Lanes n) {  // 2^n of whole n
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
inline __m256 folded(Lanes v) { return v; }
#endif

inline float sum(Lanes v) {
  const __m256 eight = folded(v);
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_shuffle_ps(half, half, 1)));
}

// The sums of four vectors side by side, each in the order of `sum`.
inline __m128 sums(Lanes a, Lanes b, Lanes c, Lanes d) {
  auto quarter = [](Lanes v) {
    const __m256 eight = folded(v);
    return _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  };
  __m128 p = quarter(a), q = quarter(b), r = quarter(c), s = quarter(d);
  _MM_TRANSPOSE4_PS(p, q, r, s);
  return _mm_add_ps(_mm_add_ps(p, r), _mm_add_ps(q, s));
}

// 2^x of every lane where n = nearest(x) is the exponent of a normal number.
inline Lanes raised(Lanes x) {
  const Lanes n = nearest(x), f = x - n;
  Lanes p = all(0.0001533757683250243f);
  p = fma(p, f, all(0.0013399860363109025f));
  p = fma(p, f, all(0.009618519534350424f));
  p = fma(p, f, all(0.05550328997517702f));
  p = fma(p, f, all(0.2402264660871402f));
  p = fma(p, f, all(0.69314720560051f));
  p = fma(p, f, all(1.f));
  return p * power_of_two(n);
}

// e^x of every lane; relative error below 1e-7 (2 + |x|), as `octavo.kernels.floats.exp`; e^-87 below, e^88 above.
inline Lanes exponential(Lanes x) {
  x = smaller(all(88.f), larger(all(-87.f), x));  // of two operands the second one's NaN stays
  return raised(x * all(1.4426950408889634f));
}

// Adds the rest of a row, from place j on, to a sum of whole vectors.
inline float with_rest(float total, const float* a, const float* b, int j, int n) {
  for (; j < n; ++j) total = __builtin_fmaf(a[j], b[j], total);
  return total;
}

inline float dot(const float* a, const float* b, int n) {
  Lanes total = all(0.f);
  int j = 0;
  for (; j + kLanes <= n; j += kLanes) total = fma(load(a + j), load(b + j), total);
  return with_rest(sum(total), a, b, j, n);
}

// The products of four rows, `stride` apart, with one: each has the bits of `dot`.
inline void four_dots(const float* rows, size_t stride, const float* x, int n, float* out) {
  const float *r0 = rows, *r1 = r0 + stride, *r2 = r1 + stride, *r3 = r2 + stride;
  Lanes a = all(0.f), b = a, c = a, d = a;
  int j = 0;
  for (; j + kLanes <= n; j += kLanes) {
    const Lanes v = load(x + j);
    a = fma(load(r0 + j), v, a);
    b = fma(load(r1 + j), v, b);
    c = fma(load(r2 + j), v, c);
    d = fma(load(r3 + j), v, d);
  }
  float four[4];
  _mm_storeu_ps(four, sums(a, b, c, d));
  out[0] = with_rest(four[0], r0, x, j, n);
  out[1] = with_rest(four[1], r1, x, j, n);
  out[2] = with_rest(four[2], r2, x, j, n);
  out[3] = with_rest(four[3], r3, x, j, n);
}

// out[d] += share * row[d]
inline void add_scaled(float share, const float* row, int n, float* out) {
  const Lanes s = all(share);
  int j = 0;
  for (; j + kLanes <= n; j += kLanes) store(out + j, fma(s, load(row + j), load(out + j)));
  for (; j < n; ++j) out[j] = __builtin_fmaf(share, row[j], out[j]);
}

// 1 / root of the mean square of n numbers.
inline float inverse_rms(const float* x, int n, float eps) { return 1.f / std::sqrt(dot(x, x, n) / float(n) + eps); }

// out = x / RMS(x), times the gain unless that is null; out may be x.
inline void normalise(const float* x, const float* gain, int n, float eps, float* out) {
  const float scale = inverse_rms(x, n, eps);
  for (int j = 0; j < n; ++j) out[j] = x[j] * scale * (gain ? gain[j] : 1.f);
}

// Turns the last 2 * pairs of n numbers in place: pair i by the angle of cos[i], sin[i]; sign -1 turns back.
inline void turn(float* x, int n, const float* cosine, const float* sine, int pairs, float sign) {
  float* last = x + n - 2 * pairs;
  for (int p = 0; p < pairs; ++p) {
    const float even = last[2 * p], odd = last[2 * p + 1], c = cosine[p], s = sign * sine[p];
    last[2 * p] = even * c - odd * s;
    last[2 * p + 1] = even * s + odd * c;
  }
}

// The orthonormal Walsh-Hadamard transform of n numbers (a power of two) in place.
inline void hadamard(float* x, int n, float scale) {
  for (int j = 0; j < n; ++j) x[j] *= scale;
  for (int span = 1; span < n; span *= 2)
    for (int begin = 0; begin < n; begin += 2 * span)
      for (int j = begin; j < begin + span; ++j) {
        const float low = x[j], high = x[j + span];
        x[j] = low + high;
        x[j + span] = low - high;
      }
}

}  // namespace octavo
