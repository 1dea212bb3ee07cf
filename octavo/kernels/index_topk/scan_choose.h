// From scores to the best k, for scan.cpp: a part of it, so everything is in its own namespace.

#pragma once

#include "scan_bytes.h"

#ifdef OCTAVO_X86

namespace {

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

}  // namespace

#endif
