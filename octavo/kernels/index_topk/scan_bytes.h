// Index keys and queries as bytes, and scores from them, for scan.cpp: a part of it, so everything is in its own namespace.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#define OCTAVO_X86 1
#endif

namespace {

constexpr int kTile = 8192;  // keys made bytes together: 512 KB of 64-wide keys, in the second-level cache
constexpr int kShared = 4;   // queries that pass over a group of keys while it is in the first-level cache
constexpr int kRows = 8;     // groups whose lanes share a maximum
constexpr int kHalvings = 14;
constexpr int kAhead = 6;  // keys fetched before they are scored
constexpr int kFetch = 2048;  // bytes of keys fetched before they are scored
constexpr int kHeld = 4;   // times k: scored keys held before all but the best go
constexpr float kGuard = 1.0001f;  // rounding of the bound itself
constexpr float kNone = -std::numeric_limits<float>::infinity();

struct Scored {
  float score;
  int32_t entry;
};

// Before in rank: higher score, then lower entry.
inline bool before(const Scored& a, const Scored& b) {
  return a.score > b.score || (a.score == b.score && a.entry < b.entry);
}

struct Query {
  float level = kNone;                                     // what a key must beat
  float slack_norm = 0.f, slack_error = 0.f;               // factors of the error's bound
  std::vector<Scored> held;
};

#ifdef OCTAVO_X86

// How keys and queries become bytes: keys unsigned with an offset, queries signed.
struct Vnni {
  static constexpr int lanes = 16, key_most = 127, offset = 128, query_most = 127;
};
struct Avx2 {
  static constexpr int lanes = 16, key_most = 63, offset = 64, query_most = 63;  // four products stay below 2^15
};

__attribute__((target("avx2,fma"), always_inline)) inline float sum_of(__m256 v) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_shuffle_ps(half, half, 1)));
}

__attribute__((target("avx2,fma"), always_inline)) inline float dot(const float* a, const float* b, int n) {
  __m256 sum = _mm256_setzero_ps(), other = _mm256_setzero_ps();
  int j = 0;
  for (; j + 16 <= n; j += 16) {
    sum = _mm256_fmadd_ps(_mm256_loadu_ps(a + j), _mm256_loadu_ps(b + j), sum);
    other = _mm256_fmadd_ps(_mm256_loadu_ps(a + j + 8), _mm256_loadu_ps(b + j + 8), other);
  }
  for (; j < n; j += 8) sum = _mm256_fmadd_ps(_mm256_loadu_ps(a + j), _mm256_loadu_ps(b + j), sum);
  return sum_of(_mm256_add_ps(sum, other));
}

__attribute__((target("avx2,fma"))) float score_of(const float* q, const float* w, const float* key, int I, int J) {
  float score = 0.f;
  int i = 0;
  for (; i + 4 <= I; i += 4) {  // four heads share the loads of the key and the sums at the end
    const float *q0 = q + size_t(i) * J, *q1 = q0 + J, *q2 = q1 + J, *q3 = q2 + J;
    __m256 a = _mm256_setzero_ps(), b = a, c = a, d = a;
    for (int j = 0; j < J; j += 8) {
      const __m256 value = _mm256_loadu_ps(key + j);
      a = _mm256_fmadd_ps(_mm256_loadu_ps(q0 + j), value, a);
      b = _mm256_fmadd_ps(_mm256_loadu_ps(q1 + j), value, b);
      c = _mm256_fmadd_ps(_mm256_loadu_ps(q2 + j), value, c);
      d = _mm256_fmadd_ps(_mm256_loadu_ps(q3 + j), value, d);
    }
    const __m256 sums = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1));
    score += _mm_cvtss_f32(_mm_dp_ps(_mm_max_ps(four, _mm_setzero_ps()), _mm_loadu_ps(w + i), 0xf1));
  }
  for (; i < I; ++i) score += w[i] * std::max(dot(q + size_t(i) * J, key, J), 0.f);
  return score;
}

// An upper bound of the largest eigenvalue of sum_i |w_i| a_i a_i^T: (trace G^4)^(1/4) of the Gram matrix G.
__attribute__((target("avx2,fma"))) float largest(const float* a, const float* w, int I, int J) {
  std::vector<float> gram(size_t(I) * I);
  for (int i = 0; i < I; ++i)
    for (int h = 0; h <= i; ++h)
      gram[size_t(i) * I + h] = gram[size_t(h) * I + i] =
          dot(a + size_t(i) * J, a + size_t(h) * J, J) * std::sqrt(std::fabs(w[i] * w[h]));
  double total = 0.;  // of the squares of G G
  for (int i = 0; i < I; ++i)
    for (int h = 0; h < I; ++h) {
      float square = 0.f;
      for (int j = 0; j < I; ++j) square += gram[size_t(i) * I + j] * gram[size_t(h) * I + j];
      total += double(square) * square;
    }
  return float(std::sqrt(std::sqrt(total)));
}

// Keys as bytes: group g of `lanes` keys holds J / 4 blocks of [lanes][4] bytes. Of each key its scale, |k|, |k - k'|.
struct Packed {
  uint8_t* bytes;
  float *scale, *norm, *error;
};

// The keys of a tile, and the largest |k| and |k - k'| among them.
struct Tile {
  const uint8_t* bytes;
  const float* scale;
  float norm, error;
};

// Makes keys lo .. hi - 1 of keys [n, J] bytes.
template <class Form>
__attribute__((target("avx2,fma"))) void pack(const float* keys, int64_t lo, int64_t hi, int J, const Packed& to) {
  constexpr int L = Form::lanes;
  const __m256 plus = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  for (int64_t e = lo; e < hi; ++e) {
    const float* key = keys + size_t(e) * J;
    __m256 top = _mm256_setzero_ps(), error = _mm256_setzero_ps();
    for (int j = 0; j < J; j += 8) top = _mm256_max_ps(top, _mm256_and_ps(plus, _mm256_loadu_ps(key + j)));
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(top), _mm256_extractf128_ps(top, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    const float most = std::max(_mm_cvtss_f32(half), _mm_cvtss_f32(_mm_shuffle_ps(half, half, 1)));
    const float scale = most / Form::key_most, inverse = most > 0.f ? Form::key_most / most : 0.f;
    int32_t* out = reinterpret_cast<int32_t*>(to.bytes + size_t(e / L) * L * J) + e % L;
    for (int j = 0; j < J; j += 8) {
      const __m256 value = _mm256_loadu_ps(key + j);
      const __m256 whole = _mm256_round_ps(_mm256_mul_ps(value, _mm256_set1_ps(inverse)),
                                           _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
      const __m256 off = _mm256_fnmadd_ps(whole, _mm256_set1_ps(scale), value);
      error = _mm256_fmadd_ps(off, off, error);
      __m256i code = _mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(Form::offset));
      code = _mm256_packus_epi16(_mm256_packus_epi32(code, code), code);  // 4 bytes in each half
      out[size_t(j / 4) * L] = _mm256_extract_epi32(code, 0);
      out[size_t(j / 4 + 1) * L] = _mm256_extract_epi32(code, 4);
    }
    to.scale[e] = scale;
    to.norm[e] = std::sqrt(dot(key, key, J));
    to.error[e] = std::sqrt(sum_of(error));
  }
}

// The largest of n numbers that are not negative.
__attribute__((target("avx2,fma"))) float most_of(const float* values, int n) {
  __m256 top = _mm256_setzero_ps();
  int i = 0;
  for (; i + 8 <= n; i += 8) top = _mm256_max_ps(top, _mm256_loadu_ps(values + i));
  float lanes[8], most = 0.f;
  _mm256_storeu_ps(lanes, top);
  for (; i < n; ++i) most = std::max(most, values[i]);
  return std::max(most, *std::max_element(lanes, lanes + 8));
}

// The `count` keys from number `lo` on (a multiple of the lanes).
Tile tile_of(const Packed& all, int64_t lo, int count, int J) {
  return {all.bytes + size_t(lo) * J, all.scale + lo, most_of(all.norm + lo, count), most_of(all.error + lo, count)};
}

struct Rounded {
  std::vector<int8_t> bytes;    // [I, J]
  std::vector<int32_t> start;   // what cancels the keys' offset
  std::vector<float> weight;    // w_i times the scale of q_i
};

template <class Form>
void round_query(const float* q, const float* w, int I, int J, Rounded& out, Query& state) {
  out.bytes.resize(size_t(I) * J);
  out.start.resize(I);
  out.weight.resize(I);
  std::vector<float> kept(size_t(I) * J), off(size_t(I) * J);
  float shares = 0.f;
  for (int i = 0; i < I; ++i) {
    float most = 0.f;
    for (int j = 0; j < J; ++j) most = std::max(most, std::fabs(q[i * J + j]));
    const float scale = most / Form::query_most, inverse = most > 0.f ? Form::query_most / most : 0.f;
    int32_t sum = 0;
    for (int j = 0; j < J; ++j) {
      const float whole = std::nearbyintf(q[i * J + j] * inverse);
      kept[size_t(i) * J + j] = whole * scale;
      off[size_t(i) * J + j] = q[i * J + j] - whole * scale;
      sum += int32_t(whole);
      out.bytes[size_t(i) * J + j] = int8_t(whole);
    }
    out.start[i] = -sum * Form::offset;
    out.weight[i] = w[i] * scale;
    shares += std::fabs(w[i]);
  }
  state.slack_norm = std::sqrt(shares * largest(off.data(), w, I, J)) * kGuard;
  state.slack_error = std::sqrt(shares * largest(kept.data(), w, I, J)) * kGuard;
}

// Sums of the products of some heads, for the `lanes` keys of a group.
template <int HEADS>
__attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni"), always_inline)) inline __m512 heads_vnni(
    const Rounded& q, const uint8_t* keys, int i, int J, __m512 total) {
  __m512i sum[HEADS];
  for (int h = 0; h < HEADS; ++h) sum[h] = _mm512_set1_epi32(q.start[i + h]);
  const int8_t* bytes = q.bytes.data() + size_t(i) * J;
#pragma GCC unroll 8
  for (int j = 0; j < J; j += 4) {  // not unrolled, it moves every sum twice a turn
    const __m512i key = _mm512_loadu_si512(keys + size_t(j) * 16);
#pragma GCC unroll 8
    for (int h = 0; h < HEADS; ++h) {
      int32_t four;
      std::memcpy(&four, bytes + size_t(h) * J + j, 4);
      sum[h] = _mm512_dpbusd_epi32(sum[h], key, _mm512_set1_epi32(four));
    }
  }
  for (int h = 0; h < HEADS; ++h) {
    const __m512 product = _mm512_max_ps(_mm512_cvtepi32_ps(sum[h]), _mm512_setzero_ps());
    total = _mm512_fmadd_ps(product, _mm512_set1_ps(q.weight[i + h]), total);
  }
  return total;
}

// Scores of group g from bytes, and the maximum of every lane with what `top` holds.
__attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni"))) void rough(
    Vnni, const Rounded& q, const Tile& tile, int g, int I, int J, float* out, float* top) {
  const uint8_t* keys = tile.bytes + size_t(g) * 16 * J;
  __m512 total = _mm512_setzero_ps();
  for (int b = 0; b < 16 * J; b += 64) __builtin_prefetch(keys + kFetch + b);
  int i = 0;
  for (; i + 8 <= I; i += 8) total = heads_vnni<8>(q, keys, i, J, total);
  for (; i + 4 <= I; i += 4) total = heads_vnni<4>(q, keys, i, J, total);
  for (; i < I; ++i) total = heads_vnni<1>(q, keys, i, J, total);
  total = _mm512_mul_ps(total, _mm512_loadu_ps(tile.scale + g * 16));
  _mm512_storeu_ps(out, total);
  _mm512_storeu_ps(top, _mm512_max_ps(_mm512_loadu_ps(top), total));
}

// Sums of the products of some heads, for one half of the lanes of a group.
template <int HEADS>
__attribute__((target("avx2,fma"), always_inline)) inline __m256 heads_avx2(
    const Rounded& q, const uint8_t* keys, int i, int J, __m256 total) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i sum[HEADS];
  for (int h = 0; h < HEADS; ++h) sum[h] = _mm256_set1_epi32(q.start[i + h]);
  const int8_t* bytes = q.bytes.data() + size_t(i) * J;
  for (int j = 0; j < J; j += 8) {
    const __m256i key = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(keys + size_t(j) * 16));
    const __m256i next = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(keys + size_t(j + 4) * 16));
    for (int h = 0; h < HEADS; ++h) {
      int32_t four, more;
      std::memcpy(&four, bytes + size_t(h) * J + j, 4);
      std::memcpy(&more, bytes + size_t(h) * J + j + 4, 4);
      const __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(key, _mm256_set1_epi32(four)),
                                             _mm256_maddubs_epi16(next, _mm256_set1_epi32(more)));
      sum[h] = _mm256_add_epi32(sum[h], _mm256_madd_epi16(pairs, ones));
    }
  }
  for (int h = 0; h < HEADS; ++h) {
    const __m256 product = _mm256_max_ps(_mm256_cvtepi32_ps(sum[h]), _mm256_setzero_ps());
    total = _mm256_fmadd_ps(product, _mm256_set1_ps(q.weight[i + h]), total);
  }
  return total;
}

__attribute__((target("avx2,fma"))) void rough(
    Avx2, const Rounded& q, const Tile& tile, int g, int I, int J, float* out, float* top) {
  for (int half = 0; half < 16; half += 8) {
    const uint8_t* keys = tile.bytes + size_t(g) * 16 * J + 4 * half;
    __m256 total = _mm256_setzero_ps();
    int i = 0;
    for (; i + 4 <= I; i += 4) total = heads_avx2<4>(q, keys, i, J, total);
    for (; i < I; ++i) total = heads_avx2<1>(q, keys, i, J, total);
    total = _mm256_mul_ps(total, _mm256_loadu_ps(tile.scale + g * 16 + half));
    _mm256_storeu_ps(out + half, total);
    _mm256_storeu_ps(top + half, _mm256_max_ps(_mm256_loadu_ps(top + half), total));
  }
}

__attribute__((target("avx2,fma"))) int above(const float* values, int n, float bar) {
  int count = 0;
  for (int i = 0; i < n; ++i) count += values[i] > bar;
  return count;
}

#endif

}  // namespace
