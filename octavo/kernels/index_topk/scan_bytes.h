// Index keys and queries as bytes, and scores from them, for scan.cpp: a part of it, so all is in its own namespace.

#pragma once

#include "scan_scores.h"

namespace {

constexpr int kLanes = 16;   // keys whose bytes lie together: a group
constexpr int kGroups = 4;   // groups that are scored together
constexpr int kChunk = kLanes * kGroups;
constexpr int kTile = 8192;  // keys of a step's item as bytes: 512 KB of 64-wide keys, in the second-level cache
constexpr int kShared = 16;  // queries that pass over a chunk of keys while it is in the first-level cache
constexpr int kFirst = 512;  // keys after which a query first looks for a level
constexpr int kPassed = 2048;  // keys between such looks
constexpr int kRows = 8;     // groups whose lanes share a maximum
constexpr int kHalvings = 14;
constexpr int kAhead = 8;     // keys fetched before they are scored
constexpr int kFetch = 2048;  // bytes of keys fetched before they are scored
constexpr int kHeld = 4;      // times k: scored keys held before all but the best go
constexpr float kGuard = 1.0001f;   // rounding of the bound itself
constexpr float kLeast = 1e-15f;    // squares of smaller numbers lose their bits
constexpr float kNone = -std::numeric_limits<float>::infinity();

struct Scored {
  float score;
  int32_t entry;
};

// Before in rank: higher score, then lower entry.
inline bool before(const Scored& a, const Scored& b) {
  return a.score > b.score || (a.score == b.score && a.entry < b.entry);
}

#ifdef OCTAVO_X86

// An upper bound of the largest eigenvalue of sum_i w_i a_i a_i^T, w_i >= 0: (trace G^8)^(1/8) of the Gram matrix G.
__attribute__((target("avx2,fma"))) inline float largest(const float* a, const float* w, int I, int J) {
  std::vector<float> gram(size_t(I) * I), square(gram.size());
  float trace = 0.f;
  for (int i = 0; i < I; ++i) {
    for (int h = 0; h <= i; ++h)
      gram[size_t(i) * I + h] = gram[size_t(h) * I + i] =
          dot(a + size_t(i) * J, a + size_t(h) * J, J) * std::sqrt(w[i] * w[h]);
    trace += gram[size_t(i) * I + i];
  }
  if (!(trace > 0.f)) return trace;
  for (float& each : gram) each /= trace;  // no eigenvalue is greater than 1: powers stay within FP32
  for (int twice = 0; twice < 2; ++twice) {
    std::fill(square.begin(), square.end(), 0.f);
    for (int i = 0; i < I; ++i)
      for (int j = 0; j < I; ++j) {
        float* row = square.data() + size_t(i) * I;
        const float share = gram[size_t(i) * I + j], *other = gram.data() + size_t(j) * I;
        for (int h = 0; h < I; ++h) row[h] += share * other[h];
      }
    std::swap(gram, square);
  }
  float total = 0.f;
  for (const float each : gram) total += each * each;
  return trace * std::pow(total, 0.125f);
}

// Keys as bytes: group g of 16 keys holds J / 4 blocks of [16][4] bytes. Of each key its scale, |k|, |k - k'|. Keys
// whose squares are beyond FP32, NaN among them, have the scale NaN and no length: they are always scored in FP32.
struct Packed {
  uint8_t* bytes;
  float *scale, *norm, *error;
};

// Keys that are scored together, and the largest |k| and |k - k'| among them.
struct Tile {
  Packed at;
  int count;
  float norm, error;
};

// Makes keys lo .. hi - 1 of keys [n, J] bytes.
template <class Form>
__attribute__((target("avx2,fma"))) void pack(const float* keys, int64_t lo, int64_t hi, int J, const Packed& to) {
  constexpr int L = kLanes;
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
    const float square = dot(key, key, J);
    const bool bound = std::isfinite(square) && (most >= kLeast || square + most == 0.f);
    to.scale[e] = bound ? scale : std::numeric_limits<float>::quiet_NaN();
    to.norm[e] = bound ? std::sqrt(square) : 0.f;
    to.error[e] = bound ? std::sqrt(sum_of(error)) : 0.f;
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
  const Packed at{all.bytes + size_t(lo) * J, all.scale + lo, all.norm + lo, all.error + lo};
  return {at, count, most_of(at.norm, count), most_of(at.error, count)};
}

// A query as bytes. Heads are filled up to a multiple of four with zeros and come in blocks of 8 or 4.
struct Rounded {
  std::vector<int32_t> fours;  // for each block [J / 4][heads of the block]: four bytes of a head
  std::vector<int32_t> start;  // what cancels the keys' offset
  std::vector<float> weight;   // w_i times the scale of q_i
  float slack_norm, slack_error;  // factors of the error's bound

  float slack(float norm, float error) const { return slack_norm * norm + slack_error * error; }
};

template <class Form>
constexpr int heads_at(int i, int heads) {
  return i + Form::heads <= heads ? Form::heads : 4;
}

// The largest |value|, NaN if one is NaN or infinite.
__attribute__((target("avx2,fma"))) inline float size_of(const float* values, int n) {
  const __m256 plus = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  __m256 most = _mm256_setzero_ps(), nothing = most;
  float last = 0.f, none = 0.f;
  int i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 value = _mm256_loadu_ps(values + i);
    most = _mm256_max_ps(most, _mm256_and_ps(plus, value));
    nothing = _mm256_fmadd_ps(value, _mm256_setzero_ps(), nothing);
  }
  for (; i < n; ++i) last = std::max(last, std::fabs(values[i])), none += values[i] * 0.f;
  float lanes[8];
  _mm256_storeu_ps(lanes, most);
  return std::max(last, *std::max_element(lanes, lanes + 8)) + none + sum_of(nothing);
}

template <class Form>
__attribute__((target("avx2,fma"))) void round_query(const float* q, const float* w, int I, int J, Rounded& out) {
  const int heads = (I + 3) / 4 * 4;
  out.fours.assign(size_t(heads) * J / 4, 0);
  out.start.assign(heads, 0);
  out.weight.assign(heads, 0.f);
  // bounds are those of q and w over their largest numbers, so that their squares are within FP32
  const float q_size = size_of(q, I * J), w_size = size_of(w, I);
  const float q_inverse = q_size > 0.f ? 1.f / q_size : 0.f, w_inverse = w_size > 0.f ? 1.f / w_size : 0.f;
  std::vector<float> whole(J), kept(size_t(I) * J), off(size_t(I) * J), shares(I);
  float all = 0.f, lengths = 0.f;
  for (int i = 0, block = 0; i < I; ++i) {
    if (i == block + heads_at<Form>(block, heads)) block = i;
    const int width = heads_at<Form>(block, heads);
    const float *own = q + size_t(i) * J, most = size_of(own, J);
    const float scale = most / Form::query_most, inverse = most >= 1e-30f ? Form::query_most / most : 0.f;
    float sum = 0.f, *near = kept.data() + size_t(i) * J, *rest = off.data() + size_t(i) * J;
    for (int j = 0; j < J; ++j) {
      whole[j] = std::nearbyintf(own[j] * inverse);
      near[j] = whole[j] * scale * q_inverse;
      rest[j] = (own[j] - whole[j] * scale) * q_inverse;
    }
    int32_t* four = out.fours.data() + size_t(block) * J / 4 + i - block;
    for (int j = 0; j < J; j += 4, four += width) {
      uint32_t bytes = 0;
      for (int b = 0; b < 4; ++b) bytes |= uint32_t(uint8_t(int32_t(whole[j + b]))) << (8 * b), sum += whole[j + b];
      *four = int32_t(bytes);
    }
    out.start[i] = -int32_t(sum) * Form::offset;  // whole numbers, so `sum` is exact
    out.weight[i] = w[i] * scale;
    shares[i] = std::fabs(w[i]) * w_inverse;
    all += shares[i];
    lengths += shares[i] * (std::sqrt(dot(near, near, J)) + std::sqrt(dot(rest, rest, J)));
  }
  const float size = q_size * w_size * kGuard;
  const float rounding = float(J + I + 32) * std::numeric_limits<float>::epsilon() * lengths;
  out.slack_norm = size * (std::sqrt(all * largest(off.data(), shares.data(), I, J)) + rounding);
  out.slack_error = size * std::sqrt(all * largest(kept.data(), shares.data(), I, J));
}

// Adds the shares of some heads to the totals of some groups. Sums stay in registers, and a query's four bytes, once
// spread over a register, serve every group.
template <int HEADS, int GROUPS>
__attribute__((target(OCTAVO_AVX512), always_inline)) inline void heads_vnni(
    const int32_t* fours, const int32_t* start, const float* weight, const uint8_t* const* keys, int J, __m512* total) {
  __m512i sum[HEADS][GROUPS];
#pragma GCC unroll 8
  for (int h = 0; h < HEADS; ++h)
#pragma GCC unroll 4
    for (int g = 0; g < GROUPS; ++g) sum[h][g] = _mm512_set1_epi32(start[h]);
  int j = 0;
  do {  // one way out: else compilers move every sum
    __m512i key[GROUPS];
#pragma GCC unroll 4
    for (int g = 0; g < GROUPS; ++g) key[g] = _mm512_loadu_si512(keys[g] + size_t(j) * kLanes);
#pragma GCC unroll 8
    for (int h = 0; h < HEADS; ++h) {
      const __m512i four = _mm512_set1_epi32(fours[h]);
#pragma GCC unroll 4
      for (int g = 0; g < GROUPS; ++g) asm("vpdpbusd %2, %1, %0" : "+v"(sum[h][g]) : "v"(key[g]), "v"(four));
    }
    fours += HEADS, j += 4;
  } while (j < J);
#pragma GCC unroll 8
  for (int h = 0; h < HEADS; ++h)
#pragma GCC unroll 4
    for (int g = 0; g < GROUPS; ++g)
      total[g] = _mm512_fmadd_ps(_mm512_max_ps(_mm512_cvtepi32_ps(sum[h][g]), _mm512_setzero_ps()),
                                 _mm512_set1_ps(weight[h]), total[g]);
}

// Scores from bytes of the keys of a chunk, whose groups begin at `keys` with scales at `scale`: out [kChunk].
__attribute__((target(OCTAVO_AVX512))) inline void rough(Vnni, const Rounded& q, const uint8_t* const* keys,
                                                         const float* const* scale, int J, float* out) {
  const int heads = int(q.weight.size());
  const int32_t *fours = q.fours.data(), *start = q.start.data();
  const float* weight = q.weight.data();
  __m512 total[kGroups];
  for (__m512& each : total) each = _mm512_setzero_ps();
  int i = 0;
  for (; i + 8 <= heads; i += 8)
    for (int g = 0; g < kGroups; g += 2)
      heads_vnni<8, 2>(fours + size_t(i) * J / 4, start + i, weight + i, keys + g, J, total + g);
  if (i < heads) heads_vnni<4, 4>(fours + size_t(i) * J / 4, start + i, weight + i, keys, J, total);
  for (int g = 0; g < kGroups; ++g)
    _mm512_storeu_ps(out + g * kLanes, _mm512_mul_ps(total[g], _mm512_loadu_ps(scale[g])));
}

// Adds the shares of four heads to the totals of a group, whose halves share a query's four bytes in a register.
__attribute__((target("avx2,fma"), always_inline)) inline void heads_avx2(
    const int32_t* fours, const int32_t* start, const float* weight, const uint8_t* keys, int J, __m256* total) {
  const __m256i ones = _mm256_set1_epi16(1);
  const __m256i* at = reinterpret_cast<const __m256i*>(keys);
  const __m256i* const end = at + J / 2;
  __m256i sum[4][2];
  for (int h = 0; h < 4; ++h) sum[h][0] = sum[h][1] = _mm256_set1_epi32(start[h]);
  do {  // one way out: else compilers move every sum
    const __m256i key[2] = {_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1)};
    const __m256i next[2] = {_mm256_loadu_si256(at + 2), _mm256_loadu_si256(at + 3)};
#pragma GCC unroll 4
    for (int h = 0; h < 4; ++h) {
      const __m256i four = _mm256_set1_epi32(fours[h]), more = _mm256_set1_epi32(fours[4 + h]);
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const __m256i pairs =
            _mm256_add_epi16(_mm256_maddubs_epi16(key[half], four), _mm256_maddubs_epi16(next[half], more));
        sum[h][half] = _mm256_add_epi32(sum[h][half], _mm256_madd_epi16(pairs, ones));
      }
    }
    at += 4, fours += 8;
  } while (at != end);
  for (int h = 0; h < 4; ++h)
    for (int half = 0; half < 2; ++half)
      total[half] = _mm256_fmadd_ps(_mm256_max_ps(_mm256_cvtepi32_ps(sum[h][half]), _mm256_setzero_ps()),
                                    _mm256_set1_ps(weight[h]), total[half]);
}

__attribute__((target("avx2,fma"))) inline void rough(Avx2, const Rounded& q, const uint8_t* const* keys,
                                                      const float* const* scale, int J, float* out) {
  const int heads = int(q.weight.size());
  for (int g = 0; g < kGroups; ++g) {
    __m256 total[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (int i = 0; i < heads; i += 4)
      heads_avx2(q.fours.data() + size_t(i) * J / 4, q.start.data() + i, q.weight.data() + i, keys[g], J, total);
    for (int half = 0; half < 2; ++half)
      _mm256_storeu_ps(out + g * kLanes + half * 8, _mm256_mul_ps(total[half], _mm256_loadu_ps(scale[g] + half * 8)));
  }
}

// Where the groups of the chunk that begins with key `at` of a tile lie; those behind the tile's last stand for it.
struct Chunk {
  const uint8_t* keys[kGroups];
  const float* scale[kGroups];

  Chunk(const Tile& tile, int at, int J) {
    for (int g = 0; g < kGroups; ++g) {
      const int group = std::min(at / kLanes + g, (tile.count - 1) / kLanes);
      keys[g] = tile.at.bytes + size_t(group) * kLanes * J;
      scale[g] = tile.at.scale + group * kLanes;
    }
  }
};

// How many values are greater than `bar`.
__attribute__((target("avx2,fma"))) inline int above(const float* values, int n, float bar) {
  int count = 0;
  for (int i = 0; i < n; ++i) count += values[i] > bar;
  return count;
}

#endif

}  // namespace
