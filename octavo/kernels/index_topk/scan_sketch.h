// Keys in four bits, and products of these with vectors of bytes, for scan.cpp: a part of it, in its own namespace.
//
// A key is its scale times numbers from -7 to 7, held as 1 .. 15. A group of 16 keys holds J / 8 blocks of [16][4]
// bytes: the low half of byte b of block p is number 8 p + b, the high half number 8 p + 4 + b. Products are whole
// numbers, the same whichever instructions form them.

#pragma once

#include "scan_choose.h"

namespace {

constexpr int kSketchMost = 7, kSketchOffset = 8;
constexpr int kTogether = 4;  // groups, and vectors, whose products are formed together
constexpr int kSpan = kTogether * kLanes;
constexpr int kPairs = 4;     // blocks whose products of 15 and 127 stay within 16 bits

#ifdef OCTAVO_X86

// Keys lo .. hi - 1 of keys [n, J] in four bits. Those that are not finite, or nothing, have the scale 0.
__attribute__((target("avx2,fma"))) inline void sketch(const float* keys, int64_t lo, int64_t hi, int J, uint8_t* bytes,
                                                       float* scale) {
  const __m256 plus = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  const __m256i middle = _mm256_set1_epi32(kSketchOffset);
  for (int64_t e = lo; e < hi; ++e) {
    const float* key = keys + size_t(e) * J;
    __m256 top = _mm256_setzero_ps(), nothing = top;
    for (int j = 0; j < J; j += 8) {
      const __m256 value = _mm256_loadu_ps(key + j);
      top = _mm256_max_ps(top, _mm256_and_ps(plus, value));
      nothing = _mm256_fmadd_ps(value, _mm256_setzero_ps(), nothing);
    }
    float lanes[8];
    _mm256_storeu_ps(lanes, top);
    const float most = *std::max_element(lanes, lanes + 8) + sum_of(nothing);
    const bool whole = std::isfinite(most) && most >= 1e-30f;
    const float inverse = whole ? kSketchMost / most : 0.f;
    scale[e] = whole ? most / kSketchMost : 0.f;
    uint32_t* out = reinterpret_cast<uint32_t*>(bytes + size_t(e / kLanes) * kLanes * J / 2) + e % kLanes;
    for (int j = 0; j < J; j += 8) {
      __m256i code = middle;
      if (whole) {
        const __m256 near = _mm256_round_ps(_mm256_mul_ps(_mm256_loadu_ps(key + j), _mm256_set1_ps(inverse)),
                                            _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        code = _mm256_add_epi32(_mm256_cvtps_epi32(near), middle);
      }
      code = _mm256_packus_epi16(_mm256_packus_epi32(code, code), code);  // 4 bytes in each half
      const uint32_t low = uint32_t(_mm256_extract_epi32(code, 0)), high = uint32_t(_mm256_extract_epi32(code, 4));
      out[size_t(j / 8) * kLanes] = low | high << 4;
    }
  }
}

// A vector as bytes of a set of `count`: every fourth byte quad of `fours` [J / 4][count]. Gives its scale, 0 for one
// that is not finite, or nothing. `start` is what cancels the keys' offset. Rounds as every other body does.
inline float round_vector(const float* values, int J, int32_t* fours, int count, int32_t& start) {
  const float most = size_of(values, J);
  const bool whole = std::isfinite(most) && most >= 1e-30f;
  const float inverse = whole ? 127 / most : 0.f;
  int32_t sum = 0;
  for (int j = 0; j < J; j += 4, fours += count) {
    uint32_t bytes = 0;
    for (int b = 0; b < 4; ++b) {
      const int32_t near = whole ? int32_t(std::nearbyintf(values[j + b] * inverse)) : 0;
      bytes |= uint32_t(uint8_t(near)) << (8 * b), sum += near;
    }
    *fours = int32_t(bytes);
  }
  start = -sum * kSketchOffset;
  return whole ? most / 127 : 0.f;
}

// Products of vectors [J / 4][VECTORS] with the keys of kTogether groups: sums [VECTORS][kSpan].
template <int VECTORS>
__attribute__((target(OCTAVO_AVX512))) inline void products_of(Vnni, const int32_t* fours, const int32_t* start,
                                                               const uint8_t* const* keys, int J, int32_t* sums) {
  const __m512i low = _mm512_set1_epi8(15);
  __m512i sum[VECTORS][kTogether];
#pragma GCC unroll 4
  for (int v = 0; v < VECTORS; ++v)
#pragma GCC unroll 4
    for (int g = 0; g < kTogether; ++g) sum[v][g] = _mm512_set1_epi32(start[v]);
  int at = 0;
  do {  // one way out: else compilers move every sum
    __m512i one[VECTORS], other[VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; ++v)
      one[v] = _mm512_set1_epi32(fours[v]), other[v] = _mm512_set1_epi32(fours[VECTORS + v]);
#pragma GCC unroll 4
    for (int g = 0; g < kTogether; ++g) {
      const __m512i both = _mm512_loadu_si512(keys[g] + size_t(at) * kLanes);
      const __m512i first = _mm512_and_si512(both, low), second = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; ++v) {
        asm("vpdpbusd %2, %1, %0" : "+v"(sum[v][g]) : "v"(first), "v"(one[v]));
        asm("vpdpbusd %2, %1, %0" : "+v"(sum[v][g]) : "v"(second), "v"(other[v]));
      }
    }
    fours += 2 * VECTORS, at += 4;
  } while (2 * at < J);
#pragma GCC unroll 4
  for (int v = 0; v < VECTORS; ++v)
#pragma GCC unroll 4
    for (int g = 0; g < kTogether; ++g) _mm512_storeu_si512(sums + v * kSpan + g * kLanes, sum[v][g]);
}

template <int VECTORS>
__attribute__((target("avx2,fma"))) inline void products_of(Avx2, const int32_t* fours, const int32_t* start,
                                                            const uint8_t* const* keys, int J, int32_t* sums) {
  const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
  for (int half = 0; half < 2 * kTogether; ++half) {
    const __m256i* const from = reinterpret_cast<const __m256i*>(keys[half / 2]) + half % 2;
    __m256i sum[VECTORS];
    for (int v = 0; v < VECTORS; ++v) sum[v] = _mm256_set1_epi32(start[v]);
    for (int p = 0; p < J / 8;) {
      __m256i pairs[VECTORS];
      for (int v = 0; v < VECTORS; ++v) pairs[v] = _mm256_setzero_si256();
      for (const int end = std::min(p + kPairs, J / 8); p < end; ++p) {
        const __m256i both = _mm256_loadu_si256(from + 2 * p);
        const __m256i first = _mm256_and_si256(both, low), second = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
        const int32_t* four = fours + size_t(2 * p) * VECTORS;
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) {
          pairs[v] = _mm256_add_epi16(pairs[v], _mm256_maddubs_epi16(first, _mm256_set1_epi32(four[v])));
          pairs[v] = _mm256_add_epi16(pairs[v], _mm256_maddubs_epi16(second, _mm256_set1_epi32(four[VECTORS + v])));
        }
      }
      for (int v = 0; v < VECTORS; ++v) sum[v] = _mm256_add_epi32(sum[v], _mm256_madd_epi16(pairs[v], ones));
    }
    for (int v = 0; v < VECTORS; ++v)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + v * kSpan + half * 8), sum[v]);
  }
}

// Vectors as bytes, in sets of kTogether and a last one of fewer.
struct Vectors {
  std::vector<int32_t> fours, start;
  std::vector<float> scale;
  int J;

  void clear(int count, int width) {
    J = width;
    fours.resize(size_t(count) * J / 4), start.resize(count), scale.resize(count);
  }

  int count() const { return int(start.size()); }

  void set(int v, const float* values) {
    const int first = v / kTogether * kTogether, many = std::min(kTogether, count() - first);
    scale[v] = round_vector(values, J, fours.data() + size_t(first) * J / 4 + v - first, many, start[v]);
  }

  // Products of the set that begins with vector `first`: sums [its vectors][kSpan].
  template <class Form>
  void products(int first, const uint8_t* const* keys, int32_t* sums) const {
    const int32_t *own = fours.data() + size_t(first) * J / 4, *from = start.data() + first;
    switch (std::min(kTogether, count() - first)) {
      case 1: products_of<1>(Form{}, own, from, keys, J, sums); break;
      case 2: products_of<2>(Form{}, own, from, keys, J, sums); break;
      case 3: products_of<3>(Form{}, own, from, keys, J, sums); break;
      default: products_of<4>(Form{}, own, from, keys, J, sums);
    }
  }
};

#endif

}  // namespace
