// The best k of many queries, for scan.cpp: a part of it, so everything is in its own namespace.

#pragma once

#include "scan_hold.h"

namespace {

constexpr int kFirst = 512;    // keys after which a query first looks for a level
constexpr int kPassed = 2048;  // keys between such looks
constexpr int kHeld = 4;       // times k: scored keys held before all but the best go

#ifdef OCTAVO_X86

// FP32 scores of what is held, -infinity where others are surely greater. Those that are probably the best come first:
// the k-th of them rules out most of the rest.
template <class Form>
void score_held(const Call& call, int s, const Held& held, std::vector<float>& scores) {
  static thread_local std::vector<int> places;
  static thread_local std::vector<int32_t> entries;
  static thread_local std::vector<float> exact;
  const int all = held.count;
  scores.assign(all, kNone);
  places.resize(std::max(places.size(), size_t(all))), entries.resize(places.size()), exact.resize(places.size());
  const auto score = [&](int n) {
    for (int i = 0; i < n; ++i) entries[i] = held.entries[places[i]];
    score_entries<Form>(call, s, entries.data(), n, exact.data());
    for (int i = 0; i < n; ++i) scores[places[i]] = exact[i] = exact[i] > kNone ? exact[i] : kNone;  // no NaN
  };
  const float likely = below_the_best(held.least.data(), all, call.k);
  int n = 0;
  for (int i = 0; i < all; ++i) places[n] = i, n += held.least[i] > likely;
  score(n);
  float level = kNone;
  if (n >= call.k) level = kth(exact.data(), n, call.k);
  n = 0;
  for (int i = 0; i < all; ++i) places[n] = i, n += !(held.least[i] > likely) & !(held.most[i] < level);
  score(n);
}

// The best k for each query, ascending, by bytes: picks [S, k], where fewer are visible as the caller left them.
template <class Form>
void read(const Call& call, int64_t* picks) {
  static thread_local std::vector<Held> held(kShared);  // not made anew for every call
  static thread_local std::vector<Rounded> rounded(kShared);
  static thread_local std::vector<float> exact;
  for (int first = 0; first < call.S; first += kShared) {
    const int S = std::min(kShared, call.S - first);
    for (int s = 0; s < S; ++s) {
      round_query<Form>(call.query(first + s), call.weights(first + s), call.I, call.J, rounded[s]);
      held[s].clear(call.k);
    }
    int64_t size = kFirst;  // small at first: without a level every key is held
    for (const Place* place = call.places; place < call.places + call.count; ++place) {
      const int64_t end = std::min(place->stop, call.seen[first + S - 1]);
      for (int64_t at = place->base; at < end;) {
        const int count = int(std::min(size, end - at));
        hold_tile<Form>(call, rounded.data(), first, S, place->tile(at, count, call.J), at, held.data());
        for (int s = 0; s < S; ++s)
          if (held[s].count > held[s].enough) shrink<Form>(held[s], call.k);
        at += count, size = std::min<int64_t>(2 * size, kPassed);
      }
    }
    for (int s = 0; s < S; ++s) {
      Held& own = held[s];
      score_held<Form>(call, first + s, own, exact);
      const int found = choose(exact.data(), own.entries.data(), own.count, call.k);
      std::copy(own.entries.data(), own.entries.data() + found, picks + size_t(first + s) * call.k);
    }
  }
}

// Queries' bests of a part of the keys: FP32 scores and entries.
using Bests = std::vector<std::vector<Scored>>;

// Leaves the best k, in ascending order of entries; none whose score is NaN or -infinity.
inline void keep_best(std::vector<Scored>& best, int k) {
  const auto none = [](const Scored& one) { return !(one.score > kNone); };
  best.erase(std::remove_if(best.begin(), best.end(), none), best.end());
  if (int(best.size()) > k) {
    std::nth_element(best.begin(), best.begin() + (k - 1), best.end(), before);
    best.resize(k);
  }
  std::sort(best.begin(), best.end(), [](const Scored& a, const Scored& b) { return a.entry < b.entry; });
}

// The best k of the entries lo .. hi - 1 for each query, ascending, every one scored in FP32.
template <class Form>
void read_all(const Call& call, int64_t lo, int64_t hi, Bests& bests) {
  std::vector<float> scores(kHeld * call.k + kPassed);
  std::vector<int32_t> entries(scores.size());
  bests.assign(call.S, {});
  for (int s = 0; s < call.S; ++s) {
    const int64_t end = std::min(hi, call.seen[s]);
    float level = kNone;
    int count = 0;
    for (int64_t at = lo; at < end; at += kPassed) {
      const int more = int(std::min<int64_t>(kPassed, end - at));
      for (int i = 0; i < more; ++i) entries[count + i] = int32_t(at + i);
      score_entries<Form>(call, s, entries.data() + count, more, scores.data() + count);
      for (int i = count, last = count + more; i < last; ++i) {
        scores[count] = scores[i], entries[count] = entries[i];
        count += scores[i] > level;
      }
      if (count < kHeld * call.k && at + kPassed < end) continue;
      count = choose(scores.data(), entries.data(), count, call.k);
      if (count == call.k) level = *std::min_element(scores.begin(), scores.begin() + count);
    }
    for (int i = 0; i < count; ++i) bests[s].push_back({scores[i], entries[i]});
  }
}

// The best k of each query's listed blocks of `size` entries, ascending.
template <class Form>
void listed(const Call& call, const int64_t* blocks, int count, int size, int64_t* picks) {
  std::vector<int64_t> own;
  std::vector<float> scores(size_t(count) * size);
  std::vector<int32_t> entries(scores.size());
  for (int s = 0; s < call.S; ++s) {
    own.assign(blocks + size_t(s) * count, blocks + size_t(s + 1) * count);
    if (!std::is_sorted(own.begin(), own.end())) std::sort(own.begin(), own.end());
    int n = 0;
    for (const int64_t block : own)
      for (int64_t e = block * size; block >= 0 && e < std::min<int64_t>((block + 1) * size, call.seen[s]); ++e)
        entries[n++] = int32_t(e);
    score_entries<Form>(call, s, entries.data(), n, scores.data());
    n = choose(scores.data(), entries.data(), n, call.k);
    std::copy(entries.data(), entries.data() + n, picks + size_t(s) * call.k);
  }
}

#endif

}  // namespace
