// Index keys and queries as bytes and the bounds of what they lose, for scan.cpp: a part of it, in its own namespace.

#pragma once

#include "scan_scores.h"

#include <numeric>

namespace {

constexpr int kLanes = 16;        // keys whose bytes lie together: a group
constexpr int kFewRows = 8;       // rows up to which a sum of products bounds best
constexpr int kWorth = 3;         // heads that lower scores wait if they are at least one in so many
constexpr float kGuard = 1.0001f;  // rounding of the bound itself
constexpr float kLeast = 1e-15f;  // squares of smaller numbers lose their bits

#ifdef OCTAVO_X86

// An upper bound of the largest eigenvalue of sum_i w_i a_i a_i^T over the first n rows, w_i >= 0, by their products
// a_i . a_j [., I]: (trace G^8)^(1/8) of the Gram matrix G of w_i^(1/2) a_i.
inline float eigenvalue(const std::vector<float>& products, const float* w, int n, int I) {
  std::vector<float> gram(size_t(n) * n), square(gram.size());
  float trace = 0.f;
  for (int i = 0; i < n; ++i) trace += w[i] * products[size_t(i) * I + i];
  if (!(trace > 0.f)) return trace;
  for (int i = 0; i < n; ++i)  // over the trace: no eigenvalue is greater than 1, and powers stay within FP32
    for (int h = 0; h < n; ++h) gram[size_t(i) * n + h] = products[size_t(i) * I + h] * std::sqrt(w[i] * w[h]) / trace;
  for (int twice = 0; twice < 2; ++twice) {
    std::fill(square.begin(), square.end(), 0.f);
    for (int i = 0; i < n; ++i)
      for (int j = 0; j < n; ++j) {
        float* row = square.data() + size_t(i) * n;
        const float share = gram[size_t(i) * n + j], *other = gram.data() + size_t(j) * n;
        for (int h = 0; h < n; ++h) row[h] += share * other[h];
      }
    std::swap(gram, square);
  }
  float total = 0.f;
  for (const float each : gram) total += each * each;
  return trace * std::pow(total, 0.125f);
}

// Upper bounds of sum_i w_i |a_i . u| over all u of length 1, w_i >= 0: of the first `part` of the rows a [I, J], and
// of all. The sum is largest as |sum_i s_i w_i a_i| for some signs s_i, so it is at most (sum_ij w_i w_j |a_i .
// a_j|)^(1/2); for many rows (sum_i w_i e)^(1/2) with the eigenvalue e above may be less.
__attribute__((target("avx2,fma"))) inline void largest(const float* a, const float* w, int part, int I, int J,
                                                        float& of_part, float& of_all) {
  std::vector<float> products(size_t(I) * I);
  float square = 0.f, weights = 0.f;
  for (int i = 0; i < I; ++i) {
    float row = 0.f;
    for (int h = 0; h <= i; ++h) {
      const float product = dot(a + size_t(i) * J, a + size_t(h) * J, J);
      products[size_t(i) * I + h] = products[size_t(h) * I + i] = product;
      row += (h < i ? 2.f : 1.f) * w[h] * std::fabs(product);
    }
    square += w[i] * row, weights += w[i];
    if (i + 1 != part && i + 1 != I) continue;
    float bound = square;
    if (i >= kFewRows) bound = std::min(bound, weights * eigenvalue(products, w, i + 1, I));
    bound = std::sqrt(bound);
    if (i + 1 == part) of_part = bound;
    if (i + 1 == I) of_all = bound;
  }
}

// Keys as bytes: group g of 16 keys holds J / 4 blocks of [16][4] bytes. Of each key its scale, |k|, |k - k'|. Keys
// whose squares are beyond FP32, NaN among them, have the scale NaN and no length: they are always scored in FP32.
struct Packed {
  uint8_t* bytes;
  float *scale, *norm, *error;
};

// Keys that are scored together.
struct Tile {
  Packed at;
  int count;
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

// Factors of the bound of a score's error.
struct Slack {
  float of_norm, of_error;
};

// A query as bytes. Heads that can only lower a score, those without a positive weight, come after the others: what the
// first `plus` heads give is the most that a score can be. Each of the two parts is cut into blocks of a few heads.
struct Rounded {
  std::vector<int32_t> fours;  // for each block [J / 4][heads of the block]: four bytes of a head
  std::vector<int32_t> start;  // what cancels the keys' offset
  std::vector<float> weight;   // w_i times the scale of q_i
  int plus;
  Slack slack, plus_slack;  // of the score by all heads, and by those that raise it

  int heads() const { return int(weight.size()); }
};

// The heads of the next block where `left` are left.
template <class Form>
constexpr int block_of(int left) {
  return left <= Form::heads ? left : 4;
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
  static thread_local std::vector<float> whole, kept, lost, shares;
  static thread_local std::vector<int> order;
  out.fours.resize(size_t(I) * J / 4), out.start.resize(I), out.weight.resize(I);
  whole.resize(J), kept.resize(size_t(I) * J), lost.resize(size_t(I) * J), shares.resize(I), order.resize(I);
  std::iota(order.begin(), order.end(), 0);
  const auto rest = std::stable_partition(order.begin(), order.end(), [&](int i) { return !(w[i] <= 0.f); });
  out.plus = int(rest - order.begin());
  if (out.plus == 0 || kWorth * (I - out.plus) < I) out.plus = I;
  // bounds are those of q and w over their largest numbers, so that their squares are within FP32
  const float q_size = size_of(q, I * J), w_size = size_of(w, I);
  const float q_inverse = q_size > 0.f ? 1.f / q_size : 0.f, w_inverse = w_size > 0.f ? 1.f / w_size : 0.f;
  float lengths = 0.f;
  for (int at = 0, block = 0, width = 0; at < I; ++at) {
    if (at == block + width) block = at, width = block_of<Form>((at < out.plus ? out.plus : I) - at);
    const float *own = q + size_t(order[at]) * J, weight = w[order[at]], most = size_of(own, J);
    const float scale = most / Form::query_most, inverse = most >= 1e-30f ? Form::query_most / most : 0.f;
    float sum = 0.f, *near = kept.data() + size_t(at) * J, *off = lost.data() + size_t(at) * J;
    for (int j = 0; j < J; ++j) {
      whole[j] = std::nearbyintf(own[j] * inverse);
      near[j] = whole[j] * scale * q_inverse;
      off[j] = (own[j] - whole[j] * scale) * q_inverse;
    }
    int32_t* four = out.fours.data() + size_t(block) * J / 4 + at - block;
    for (int j = 0; j < J; j += 4, four += width) {
      uint32_t bytes = 0;
      for (int b = 0; b < 4; ++b) bytes |= uint32_t(uint8_t(int32_t(whole[j + b]))) << (8 * b), sum += whole[j + b];
      *four = int32_t(bytes);
    }
    out.start[at] = -int32_t(sum) * Form::offset;  // whole numbers, so `sum` is exact
    out.weight[at] = weight * scale;
    shares[at] = std::fabs(weight) * w_inverse;
    lengths += shares[at] * (std::sqrt(dot(near, near, J)) + std::sqrt(dot(off, off, J)));
  }
  const float size = q_size * w_size * kGuard;
  const float rounding = float(J + I + 32) * std::numeric_limits<float>::epsilon() * lengths;
  float of_lost[2], of_kept[2];
  largest(lost.data(), shares.data(), out.plus, I, J, of_lost[0], of_lost[1]);
  largest(kept.data(), shares.data(), out.plus, I, J, of_kept[0], of_kept[1]);
  out.plus_slack = {size * (of_lost[0] + rounding), size * of_kept[0]};
  out.slack = {size * (of_lost[1] + rounding), size * of_kept[1]};
}

#endif

}  // namespace
