// Exact top-k of index scores on x86 processors, a tile of keys at a time.
//
// Scores are sum_i w_i relu(q_i . key). The keys of a tile become bytes once, for all queries. Products of bytes give
// scores with a bound on their error, so that only keys that may be among a query's k best are scored in FP32. The
// result is that of scoring every key in FP32: a key is passed over only where its score is surely too low.
//
// With rounded q', k' a score is off by at most sum_i |w_i| (|(q_i - q'_i) . k| + |q'_i . (k - k')|), and by the
// inequality of Cauchy and Schwarz (sum_i |w_i| |a_i . u|)^2 <= sum_i |w_i| * u^T (sum_i |w_i| a_i a_i^T) u. So the bound
// is slack_norm |k| + slack_error |k - k'|, each factor from the largest eigenvalue of such a matrix.
//
// Covers: queries of one sequence with ascending numbers of visible keys. Ties go to the lower key. Built as a plain
// shared library without any other; Python calls it through ctypes, which lets other threads run.

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

// The places, ascending, of the values that are at least `bar`; how many there are.
__attribute__((target("avx2,fma"))) int list_above(const float* values, int n, float bar, int32_t* places) {
  const __m256 least = _mm256_set1_ps(bar);
  int count = 0, i = 0;
  for (; i + 8 <= n; i += 8) {
    unsigned bits = unsigned(_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(values + i), least, _CMP_GE_OQ)));
    for (; bits; bits &= bits - 1) places[count++] = i + __builtin_ctz(bits);
  }
  for (; i < n; ++i)
    if (values[i] >= bar) places[count++] = i;
  return count;
}

inline void fetch(const float* key, int J) {
  for (int j = 0; j < J; j += 16) __builtin_prefetch(key + j);
}

// A number that at least k of the n values are greater than, and not many more where they lie apart; kNone if n < k.
float below_the_best(const float* values, int n, int k) {
  if (n < k) return kNone;
  float low = *std::min_element(values, values + n), high = *std::max_element(values, values + n), found = kNone;
  for (int i = 0; i < kHalvings; ++i) {
    const float middle = 0.5f * low + 0.5f * high;
    const int count = above(values, n, middle);
    if (count < k) {
      high = middle;
    } else {
      low = found = middle;
      if (count <= k + k / 8) break;
    }
  }
  return found;
}

void keep_best(Query& state, int k) {
  std::nth_element(state.held.begin(), state.held.begin() + (k - 1), state.held.end(), before);
  state.level = state.held[k - 1].score;
  state.held.resize(k);
}

// The best k, in ascending order of entries.
void keep_and_sort(std::vector<Scored>& best, int k) {
  if (int(best.size()) > k) {
    std::nth_element(best.begin(), best.begin() + (k - 1), best.end(), before);
    best.resize(k);
  }
  std::sort(best.begin(), best.end(), [](const Scored& a, const Scored& b) { return a.entry < b.entry; });
}

// Keys that lie together: those of the entries base .. stop - 1, and the same as bytes, null where those are not kept.
struct Place {
  int64_t base, stop;
  const float* keys;
  uint8_t* bytes;
  float *scale, *norm, *error;
};

// What a call works with.
struct Call {
  const float *q, *w, *keys;
  const int64_t* seen;
  int S, I, J, k;
};

// Scores from bytes of the queries s .. s + kShared - 1 over a tile, and the maxima of lanes.
template <class Form>
void rough_scores(const Call& call, const std::vector<Rounded>& rounded, const Tile& tile, int s, int groups,
                  std::vector<float>& scores, std::vector<float>& tops) {
  constexpr int L = Form::lanes;
  const int last = std::min(s + kShared, call.S);
  std::fill(tops.begin(), tops.end(), kNone);
  for (int g = 0; g < groups; ++g)
    for (int at = s; at < last; ++at) {
      const size_t own = size_t(at - s) * kTile;
      rough(Form{}, rounded[at], tile, g, call.I, call.J, scores.data() + own + size_t(g) * L,
            tops.data() + own / kRows + size_t(g / kRows) * L);
    }
}

// Offer a query the `visible` first keys of a tile that begins with key `lo`.
template <class Form>
void offer(const Call& call, const Tile& tile, int s, int64_t lo, int visible, const float* scores, const float* tops,
           int32_t* found, Query& state) {
  constexpr int L = Form::lanes;
  const float slack = state.slack_norm * tile.norm + state.slack_error * tile.error;
  const int whole = visible / (L * kRows) * L;  // maxima over visible keys alone
  const float bar = std::isfinite(slack)  // else squares overflowed: every key is scored
                        ? std::max(state.level - slack, below_the_best(tops, whole, call.k) - 2.f * slack)
                        : kNone;
  const float *q = call.q + size_t(s) * call.I * call.J, *w = call.w + size_t(s) * call.I;
  const int some = list_above(scores, visible, bar, found);
  for (int i = 0; i < some; ++i) {
    if (i + kAhead < some) fetch(call.keys + (lo + found[i + kAhead]) * call.J, call.J);
    const float score = score_of(q, w, call.keys + (lo + found[i]) * call.J, call.I, call.J);
    if (score > state.level) {
      state.held.push_back({score, int32_t(lo + found[i])});
      if (int(state.held.size()) >= 2 * call.k + L) keep_best(state, call.k);
    }
  }
}

// Offers each query the keys lo .. hi - 1 that it sees; `packed` are all keys as bytes, null: they are made so here.
template <class Form>
void scan(const Call& call, const Packed* packed, int64_t lo, int64_t hi, std::vector<Query>& states) {
  constexpr int L = Form::lanes;
  const int S = call.S, I = call.I, J = call.J;
  std::vector<Rounded> rounded(S);
  states.resize(S);
  for (int s = 0; s < S; ++s)
    round_query<Form>(call.q + size_t(s) * I * J, call.w + size_t(s) * I, I, J, rounded[s], states[s]);
  std::vector<uint8_t> bytes(packed ? 0 : size_t(kTile) * J);
  std::vector<float> numbers(packed ? 0 : 3 * kTile);
  const Packed own{bytes.data(), numbers.data(), numbers.data() + kTile, numbers.data() + 2 * kTile};
  // a step of one query is short: its room is not made anew for every part
  static thread_local std::vector<float> scores, tops;
  static thread_local std::vector<int32_t> found;
  scores.resize(size_t(kShared) * kTile), tops.resize(scores.size() / kRows), found.resize(kTile);
  for (; lo < hi; lo += kTile) {
    const int count = int(std::min<int64_t>(kTile, hi - lo));
    if (!packed) pack<Form>(call.keys + lo * J, 0, count, J, own);
    const Tile tile = packed ? tile_of(*packed, lo, count, J) : tile_of(own, 0, count, J);
    for (int s = 0; s < S; s += kShared) {
      rough_scores<Form>(call, rounded, tile, s, (count + L - 1) / L, scores, tops);
      for (int at = s; at < std::min(s + kShared, S); ++at) {
        const int visible = int(std::min<int64_t>(count, call.seen[at] - lo));
        const size_t mine = size_t(at - s) * kTile;
        if (visible > 0)
          offer<Form>(call, tile, at, lo, visible, scores.data() + mine, tops.data() + mine / kRows, found.data(),
                      states[at]);
      }
    }
  }
  for (Query& state : states)
    if (int(state.held.size()) > call.k) keep_best(state, call.k);
}

void scan(int level, const Call& call, const Packed* packed, int64_t lo, int64_t hi, std::vector<Query>& states) {
  if (level == 2) scan<Vnni>(call, packed, lo, hi, states);
  if (level == 1) scan<Avx2>(call, packed, lo, hi, states);
}

// The entries that the queries hold, numbered from `base`, go to [S, k]; their scores too unless null.
void hand_over(const std::vector<Query>& states, int64_t base, int k, float* scores, int64_t* entries) {
  for (size_t s = 0; s < states.size(); ++s)
    for (size_t e = 0; e < states[s].held.size(); ++e) {
      entries[s * k + e] = base + states[s].held[e].entry;
      if (scores) scores[s * k + e] = states[s].held[e].score;
    }
}

// The k best entries of each query's listed blocks of `size` entries.
void listed(const Call& call, const int64_t* blocks, int count, int size, int64_t* picks) {
  Query state;
  for (int s = 0; s < call.S; ++s) {
    const float *q = call.q + size_t(s) * call.I * call.J, *w = call.w + size_t(s) * call.I;
    state.held.clear();
    for (int b = 0; b < count; ++b) {
      const int64_t block = blocks[size_t(s) * count + b];
      if (block < 0) continue;
      const int64_t end = std::min<int64_t>((block + 1) * size, call.seen[s]);
      for (int64_t e = block * size; e < end; ++e)
        state.held.push_back({score_of(q, w, call.keys + e * call.J, call.I, call.J), int32_t(e)});
    }
    if (int(state.held.size()) > call.k) keep_best(state, call.k);
    for (size_t e = 0; e < state.held.size(); ++e) picks[size_t(s) * call.k + e] = state.held[e].entry;
  }
}

// Every key lo .. hi - 1 scored in FP32.
void score_all(const Call& call, int64_t lo, int64_t hi, std::vector<Query>& states) {
  states.resize(call.S);
  for (int s = 0; s < call.S; ++s) {
    const float *q = call.q + size_t(s) * call.I * call.J, *w = call.w + size_t(s) * call.I;
    Query& state = states[s];
    for (int64_t e = lo; e < std::min<int64_t>(hi, call.seen[s]); ++e) {
      const float score = score_of(q, w, call.keys + e * call.J, call.I, call.J);
      if (score > state.level) {
        state.held.push_back({score, int32_t(e)});
        if (int(state.held.size()) >= kHeld * call.k) keep_best(state, call.k);
      }
    }
    if (int(state.held.size()) > call.k) keep_best(state, call.k);
  }
}

// A loop's items on several threads (`octavo_step_run` in octavo/kernels/step), null: one after the other.
using Run = void (*)(int threads, int items, void (*item)(void*, int), void* context);

template <class Work>
void share(Run run, int threads, int items, const Work& work) {
  if (run) return run(threads, items, [](void* to, int i) { (*static_cast<const Work*>(to))(i); }, const_cast<Work*>(&work));
  for (int i = 0; i < items; ++i) work(i);
}

constexpr int64_t kPart = 2048;  // keys of an item in FP32; as bytes they are kTile
constexpr int kBlocks = 16;                        // blocks of an item

// Keys of one place that an item of a loop takes.
struct Part {
  const Place* place;
  int64_t lo, hi;
};

// The same by bytes: rough scores of all keys first, since what k keys of all surely beat rules out more than what k keys
// of a part do. `states[i]` get what query s holds of part i.
template <class Form>
void best_by_bytes(Run run, int threads, const Call& call, const std::vector<Part>& parts,
                   std::vector<std::vector<Query>>& states) {
  constexpr int L = Form::lanes;
  const int S = call.S, n = int(parts.size());
  const size_t room = size_t(n) * kTile;
  std::vector<Rounded> rounded(S);
  std::vector<Query> queries(S);
  for (int s = 0; s < S; ++s)
    round_query<Form>(call.q + size_t(s) * call.I * call.J, call.w + size_t(s) * call.I, call.I, call.J, rounded[s],
                      queries[s]);
  static thread_local std::vector<float> held_scores, held_tops;  // not made anew for every step
  held_scores.resize(std::max(held_scores.size(), S * room));
  held_tops.resize(std::max(held_tops.size(), S * room / kRows));
  float *scores = held_scores.data(), *tops = held_tops.data();
  std::vector<Tile> tiles(n);
  share(run, threads, n, [&](int i) {
    const Place& place = *parts[i].place;
    const int count = int(parts[i].hi - parts[i].lo);
    tiles[i] = tile_of({place.bytes, place.scale, place.norm, place.error}, parts[i].lo, count, call.J);
    for (int s = 0; s < S; ++s) {
      float *own = scores + s * room + size_t(i) * kTile, *top = tops + (s * room + size_t(i) * kTile) / kRows;
      std::fill(top, top + kTile / kRows, kNone);
      for (int g = 0; g < (count + L - 1) / L; ++g)
        rough(Form{}, rounded[s], tiles[i], g, call.I, call.J, own + size_t(g) * L, top + size_t(g / kRows) * L);
    }
  });
  const auto visible = [&](int i, int s) {
    return int(std::max<int64_t>(0, std::min(parts[i].hi, call.seen[s] - parts[i].place->base) - parts[i].lo));
  };
  std::vector<float> whole;
  for (int s = 0; s < S; ++s) {
    whole.clear();
    float slack = 0.f;
    for (int i = 0; i < n; ++i) {
      const float* top = tops + (s * room + size_t(i) * kTile) / kRows;
      whole.insert(whole.end(), top, top + visible(i, s) / (L * kRows) * L);  // maxima over visible keys alone
      slack = std::max(slack, queries[s].slack_norm * tiles[i].norm + queries[s].slack_error * tiles[i].error);
    }
    const float beaten = below_the_best(whole.data(), int(whole.size()), call.k);
    queries[s].level = std::isfinite(slack) ? beaten - slack : kNone;
  }
  share(run, threads, n, [&](int i) {
    static thread_local std::vector<int32_t> found;
    found.resize(kTile);
    states[i].resize(S);
    const Place& place = *parts[i].place;
    for (int s = 0; s < S; ++s) {
      const float *q = call.q + size_t(s) * call.I * call.J, *w = call.w + size_t(s) * call.I;
      const float slack = queries[s].slack_norm * tiles[i].norm + queries[s].slack_error * tiles[i].error;
      const float bar = std::isfinite(slack) ? queries[s].level - slack : kNone;
      const int some = list_above(scores + s * room + size_t(i) * kTile, visible(i, s), bar, found.data());
      Query& state = states[i][s];
      for (int f = 0; f < some; ++f) {
        const int64_t key = parts[i].lo + found[f];
        if (f + kAhead < some) fetch(place.keys + (parts[i].lo + found[f + kAhead]) * call.J, call.J);
        state.held.push_back({score_of(q, w, place.keys + key * call.J, call.I, call.J), int32_t(key)});
        if (int(state.held.size()) >= kHeld * call.k) keep_best(state, call.k);
      }
    }
  });
}

// The best k of each query among the keys of all places, ascending: found[s].
void best_of(Run run, int threads, int level, const Call& call, const Place* places, int count,
             std::vector<std::vector<Scored>>& found) {
  std::vector<Part> parts;
  const int64_t end = call.S ? call.seen[call.S - 1] : 0;
  bool bytes = true;
  for (int p = 0; p < count; ++p) bytes = bytes && places[p].bytes;
  for (int p = 0; p < count; ++p) {
    const int64_t keys = std::min(places[p].stop, end) - places[p].base, each = bytes ? kTile : kPart;
    for (int64_t lo = 0; lo < keys; lo += each) parts.push_back({places + p, lo, std::min(lo + each, keys)});
  }
  std::vector<std::vector<Query>> states(parts.size());
  if (bytes && level == 2) {
    best_by_bytes<Vnni>(run, threads, call, parts, states);
  } else if (bytes && level == 1) {
    best_by_bytes<Avx2>(run, threads, call, parts, states);
  } else {
    share(run, threads, int(parts.size()), [&](int i) {
      const Place& place = *parts[i].place;
      std::vector<int64_t> seen(call.seen, call.seen + call.S);
      for (int64_t& n : seen) n -= place.base;
      score_all({call.q, call.w, place.keys, seen.data(), call.S, call.I, call.J, call.k}, parts[i].lo, parts[i].hi,
                states[i]);
    });
  }
  found.assign(call.S, {});
  for (int s = 0; s < call.S; ++s) {
    std::vector<Scored>& best = found[s];
    for (size_t i = 0; i < parts.size(); ++i)
      for (const Scored& one : states[i][s].held) best.push_back({one.score, int32_t(one.entry + parts[i].place->base)});
    keep_and_sort(best, call.k);
  }
}

// Keys by number through places.
inline const float* key_of(const Place* places, int count, int64_t entry, int J) {
  int p = 0;
  while (p + 1 < count && places[p + 1].base <= entry) ++p;
  return places[p].keys + size_t(entry - places[p].base) * J;
}

// The best k of query s among its blocks' entries.
void best_of_blocks(Run run, int threads, const Call& call, int s, const Place* places, int count,
                    const std::vector<int64_t>& blocks, int size, std::vector<Scored>& best) {
  const float *q = call.q + size_t(s) * call.I * call.J, *w = call.w + size_t(s) * call.I;
  std::vector<Scored> all(blocks.size() * size);
  share(run, threads, int((blocks.size() + kBlocks - 1) / kBlocks), [&](int item) {
    for (size_t b = size_t(item) * kBlocks; b < std::min<size_t>(blocks.size(), size_t(item + 1) * kBlocks); ++b) {
      const int64_t next = b + 1 < blocks.size() ? blocks[b + 1] * size : call.seen[s];
      for (int64_t e = next; e < std::min(next + size, call.seen[s]); ++e)
        fetch(key_of(places, count, e, call.J), call.J);
      for (int i = 0; i < size; ++i) {
        const int64_t entry = blocks[b] * size + i;
        const bool there = entry < call.seen[s];
        all[b * size + i] = {there ? score_of(q, w, key_of(places, count, entry, call.J), call.I, call.J) : kNone,
                             there ? int32_t(entry) : -1};
      }
    }
  });
  best.clear();
  for (const Scored& one : all)
    if (one.entry >= 0) best.push_back(one);
  keep_and_sort(best, call.k);
}

#endif

}  // namespace

extern "C" {

// 2: AVX-512 with VNNI, 1: AVX2, 0: neither.
int octavo_scan_level() {
#ifdef OCTAVO_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    return 2;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 1;
#endif
  return 0;
}

// q [S, I, J], w [S, I], keys [C, J], seen [S] ascending, at most C; picks [S, k], filled with -1 by the caller.
void octavo_scan(int level, const float* q, const float* w, const float* keys, const int64_t* seen, int S, int I, int J,
                 int k, int64_t* picks) {
#ifdef OCTAVO_X86
  std::vector<Query> states;
  scan(level, Call{q, w, keys, seen, S, I, J, k}, nullptr, 0, S ? seen[S - 1] : 0, states);
  hand_over(states, 0, k, nullptr, picks);
#endif
}

// The keys lo .. hi - 1 of keys [C, J] as bytes for this level: bytes [C up to a multiple of 16, J], the rest [C].
void octavo_pack(int level, const float* keys, int64_t lo, int64_t hi, int J, uint8_t* bytes, float* scale, float* norm,
                 float* error) {
#ifdef OCTAVO_X86
  const Packed to{bytes, scale, norm, error};
  if (level == 2) pack<Vnni>(keys, lo, hi, J, to);
  if (level == 1) pack<Avx2>(keys, lo, hi, J, to);
#endif
}

// As octavo_scan, among the keys lo .. hi - 1 alone, which are entries base + lo and so on; scores [S, k] as well. What
// octavo_pack made of the keys is read first (lo a multiple of 16); with null bytes every key is scored in FP32.
void octavo_part(int level, const float* q, const float* w, const float* keys, uint8_t* bytes, float* scale, float* norm,
                 float* error, const int64_t* seen, int64_t lo, int64_t hi, int64_t base, int S, int I, int J, int k,
                 float* scores, int64_t* entries) {
#ifdef OCTAVO_X86
  const Call call{q, w, keys, seen, S, I, J, k};
  const Packed packed{bytes, scale, norm, error};
  std::vector<Query> states;
  if (bytes)
    scan(level, call, &packed, lo, hi, states);
  else
    score_all(call, lo, hi, states);
  hand_over(states, base, k, scores, entries);
#endif
}

// As octavo_scan, among the entries of blocks [S, count] alone: block b holds b * size .. b * size + size - 1, -1 none.
void octavo_listed(const float* q, const float* w, const float* keys, const int64_t* blocks, const int64_t* seen, int S,
                   int I, int J, int count, int size, int k, int64_t* picks) {
#ifdef OCTAVO_X86
  listed(Call{q, w, keys, seen, S, I, J, k}, blocks, count, size, picks);
#endif
}

// The picks of a handful of queries, which are the tokens first, first + 1, ..: the k best, ascending, of the entries that
// each sees, (token + 1) / ratio and at most `length` of them. With `best` > 0 only entries of blocks of `block` tokens
// are looked at: those of the `best` best blocks by their coarse keys, of the last complete block, and of the open one.
// Places hold all entries, coarse places a key for every complete block; picks [S, k] are -1 where fewer are visible.
void octavo_select(void* run, int threads, int level, const float* q, const float* w, int S, int I, int J, int64_t first,
                   int64_t ratio, int64_t length, int k, const void* places, int count, int64_t block, int best,
                   const void* coarse_places, int coarse_count, int64_t* picks) {
#ifdef OCTAVO_X86
  const Place *fine = static_cast<const Place*>(places), *coarse = static_cast<const Place*>(coarse_places);
  const Run on = reinterpret_cast<Run>(run);
  std::vector<int64_t> seen(S), complete(S);
  for (int s = 0; s < S; ++s) {
    seen[s] = std::min((first + s + 1) / ratio, length);
    complete[s] = block ? (first + s + 1) / block : 0;
  }
  const Call call{q, w, nullptr, seen.data(), S, I, J, k};
  std::vector<std::vector<Scored>> found;
  if (best) {
    best_of(on, threads, level, Call{q, w, nullptr, complete.data(), S, I, J, best}, coarse, coarse_count, found);
    for (int s = 0; s < S; ++s) {
      std::vector<int64_t> blocks;
      for (const Scored& one : found[s])
        if (one.entry != complete[s] - 1) blocks.push_back(one.entry);
      if (complete[s]) blocks.push_back(complete[s] - 1);
      blocks.push_back(complete[s]);
      best_of_blocks(on, threads, call, s, fine, count, blocks, int(block / ratio), found[s]);
    }
  } else {
    best_of(on, threads, level, call, fine, count, found);
  }
  for (int s = 0; s < S; ++s) {
    std::fill(picks + size_t(s) * k, picks + size_t(s + 1) * k, -1);
    for (size_t e = 0; e < found[s].size(); ++e) picks[size_t(s) * k + e] = found[s][e].entry;
  }
#endif
}

}  // extern "C"
