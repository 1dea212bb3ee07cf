// Attention of a handful of queries of one sequence: window, listed or all visible entries, and the sink.
//
// A query's rows are cut into pieces of a fixed size. Threads take pieces; each gives the exponentials against its own
// maximum, their sum, and the sum of its rows; pieces are joined in order. So a query has the same bits alone and among
// others, on any number of threads, wherever its rows lie, and where all entries are listed as where all are visible.

#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "team.h"
#include "vectors.h"

namespace octavo {

// Query t is token first + t; window rows near [past + queries, width] end with the queries' own. Entries are numbered
// through parts: part p holds the entries starts[p] .. starts[p + 1] - 1 from rows[p] on. `listed` [T, picks], -1 none;
// null: all entries below min((first + t + 1) / ratio, length), none with ratio 0. `offset` is added to their logits.
struct Attention {
  int32_t queries, heads, width, window, past, parts, picks, padding;
  int64_t first, ratio, length, mass_apart;
  float scale, offset;
  const float *near, *sink;
  const int64_t *starts, *listed;
  const float* const* rows;
};

constexpr int kFew = 64, kMany = 256;    // rows of a piece: of few rows, so that threads share them; of many
constexpr int64_t kManyRows = 2048;      // entries from which pieces are large
constexpr int kAhead = 4;                // rows fetched before they are used
constexpr float kNothing = -std::numeric_limits<float>::infinity();

// logits [H, apart]: scale q [H, K] . rows[i] + offset.
inline void logits_of(const float* q, int H, int K, const float* const* rows, int n, float scale, float offset,
                      float* logits, int apart) {
  for (int i = 0; i < n; ++i) {
    if (i + kAhead < n)
      for (int k = 0; k < K; k += 16) __builtin_prefetch(rows[i + kAhead] + k);
    int h = 0;
    for (float four[4]; h + 4 <= H; h += 4) {
      four_dots(q + size_t(h) * K, K, rows[i], K, four);
      for (int j = 0; j < 4; ++j) logits[(h + j) * apart + i] = four[j] * scale + offset;
    }
    for (; h < H; ++h) logits[h * apart + i] = dot(q + size_t(h) * K, rows[i], K) * scale + offset;
  }
}

// Exponentials of n numbers in place against their maximum; that and their sum.
inline void soften(float* row, int n, float& top, float& total) {
  Lanes most = all(kNothing);
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) most = larger(most, load(row + i));
  float lanes[kLanes];
  store(lanes, most);
  top = *std::max_element(lanes, lanes + kLanes);
  for (; i < n; ++i) top = std::max(top, row[i]);
  Lanes sums_of = all(0.f);
  for (i = 0; i + kLanes <= n; i += kLanes) {
    const Lanes e = exponential(load(row + i) - all(top));
    store(row + i, e);
    sums_of = sums_of + e;
  }
  total = sum(sums_of);
  if (i == n) return;
  std::fill(lanes, lanes + kLanes, top);
  std::copy(row + i, row + n, lanes);
  store(lanes, exponential(load(lanes) - all(top)));
  for (int j = 0; i < n; ++i, ++j) total += row[i] = lanes[j];
}

// Two vectors of channels of the sums of four heads.
inline void add_to_four(const float* p, int apart, const float* const* rows, int n, int k, float* out, int K) {
  Lanes a0 = all(0.f), a1 = a0, b0 = a0, b1 = a0, c0 = a0, c1 = a0, d0 = a0, d1 = a0;
  for (int i = 0; i < n; ++i) {
    const Lanes v = load(rows[i] + k), w = load(rows[i] + k + kLanes);
    const Lanes pa = all(p[i]), pb = all(p[apart + i]), pc = all(p[2 * apart + i]), pd = all(p[3 * apart + i]);
    a0 = fma(pa, v, a0), a1 = fma(pa, w, a1), b0 = fma(pb, v, b0), b1 = fma(pb, w, b1);
    c0 = fma(pc, v, c0), c1 = fma(pc, w, c1), d0 = fma(pd, v, d0), d1 = fma(pd, w, d1);
  }
  store(out, a0), store(out + kLanes, a1), store(out + K, b0), store(out + K + kLanes, b1);
  store(out + 2 * K, c0), store(out + 2 * K + kLanes, c1), store(out + 3 * K, d0), store(out + 3 * K + kLanes, d1);
}

// out [H, K] = p [H, apart] rows.
inline void sum_rows(const float* p, int apart, int H, int K, const float* const* rows, int n, float* out) {
  const int heads = H / 4 * 4, wide = K / (2 * kLanes) * (2 * kLanes);
  for (int h = 0; h < heads; h += 4)
    for (int k = 0; k < wide; k += 2 * kLanes)
      add_to_four(p + size_t(h) * apart, apart, rows, n, k, out + size_t(h) * K + k, K);
  for (int h = 0; h < H; ++h) {
    const int from = h < heads ? wide : 0;  // what no group of four took
    float* own = out + size_t(h) * K;
    std::fill(own + from, own + K, 0.f);
    for (int i = 0; i < n && from < K; ++i) add_scaled(p[size_t(h) * apart + i], rows[i] + from, K - from, own + from);
  }
}

// The rows of one query: its window, and entries by number with the place where each was listed.
struct Seen {
  int64_t lo, count, entries;
  int size, window_pieces, pieces, at;  // rows of an entries' piece; `at`: pieces of the queries before
  const int64_t* listed;                // those that are listed, without -1; null: entries 0, 1, ...
};

inline std::vector<Seen> seen_by(const Attention& a, std::vector<int64_t>& listed) {
  std::vector<Seen> found;
  listed.resize(a.listed ? size_t(a.queries) * a.picks : 0);
  int at = 0;
  for (int64_t t = 0; t < a.queries; ++t) {
    Seen s{std::max<int64_t>(0, a.past + t - a.window + 1), 0, 0, 0, 0, 0, at, nullptr};
    s.count = a.past + t + 1 - s.lo;
    if (a.listed) {
      int64_t* own = listed.data() + t * a.picks;
      const int64_t* given = a.listed + t * a.picks;
      s.entries = std::copy_if(given, given + a.picks, own, [](int64_t e) { return e >= 0; }) - own;
      s.listed = own;
    } else if (a.ratio) {
      s.entries = std::min((a.first + t + 1) / a.ratio, a.length);
    }
    s.size = s.entries < kManyRows ? kFew : kMany;
    s.window_pieces = int((s.count + kFew - 1) / kFew);
    s.pieces = s.window_pieces + int((s.entries + s.size - 1) / s.size);
    at += s.pieces;
    found.push_back(s);
  }
  return found;
}

inline const float* entry_of(const Attention& a, int64_t entry) {
  int p = 0;
  while (p + 1 < a.parts && a.starts[p + 1] <= entry) ++p;
  return a.rows[p] + (entry - a.starts[p]) * a.width;
}

// q, out [T, H, K]; mass null or [T, mass_apart], zero before: the probability of every entry, summed over heads, at its
// number or at the place where it is listed.
inline void attend(int threads, const Attention& a, const float* q, float* out, float* mass) {
  const int H = a.heads, K = a.width;
  std::vector<int64_t> listed;
  const std::vector<Seen> seen = seen_by(a, listed);
  const int pieces = seen.empty() ? 0 : seen.back().at + seen.back().pieces;
  std::vector<float> tops(size_t(pieces) * H), totals(tops.size()), sums_of(tops.size() * K);
  std::vector<float> kept(mass ? size_t(pieces) * H * kMany : 0);
  std::vector<int> owner(pieces);
  for (size_t t = 0; t < seen.size(); ++t) std::fill_n(owner.begin() + seen[t].at, seen[t].pieces, int(t));
  share(threads, pieces, [&](int item) {
    const Seen& s = seen[owner[item]];
    const int place = item - s.at;
    const bool near = place < s.window_pieces;
    const int64_t lo = near ? int64_t(place) * kFew : int64_t(place - s.window_pieces) * s.size;
    const int n = int(std::min<int64_t>(near ? kFew : s.size, (near ? s.count : s.entries) - lo));
    const float* rows[kMany];
    for (int i = 0; i < n; ++i)
      rows[i] = near ? a.near + (s.lo + lo + i) * K : entry_of(a, s.listed ? s.listed[lo + i] : lo + i);
    std::vector<float> own(mass ? 0 : size_t(H) * kMany);
    float* logits = mass ? kept.data() + size_t(item) * H * kMany : own.data();
    logits_of(q + size_t(owner[item]) * H * K, H, K, rows, n, a.scale, near ? 0.f : a.offset, logits, kMany);
    for (int h = 0; h < H; ++h)
      soften(logits + h * kMany, n, tops[size_t(item) * H + h], totals[size_t(item) * H + h]);
    sum_rows(logits, kMany, H, K, rows, n, sums_of.data() + size_t(item) * H * K);
  });
  std::vector<float> shares(mass ? size_t(pieces) * H : pieces);
  for (size_t t = 0; t < seen.size(); ++t) {
    const Seen& s = seen[t];
    for (int h = 0; h < H; ++h) {
      float *own = out + (t * H + h) * K, top = a.sink[h];
      for (int p = s.at; p < s.at + s.pieces; ++p) top = std::max(top, tops[size_t(p) * H + h]);
      float total = std::exp(a.sink[h] - top);
      std::fill(own, own + K, 0.f);
      for (int p = s.at; p < s.at + s.pieces; ++p) {
        const float part = std::exp(tops[size_t(p) * H + h] - top);
        total += part * totals[size_t(p) * H + h];
        add_scaled(part, sums_of.data() + (size_t(p) * H + h) * K, K, own);
        shares[mass ? size_t(p) * H + h : p] = part;
      }
      for (int k = 0; k < K; ++k) own[k] /= total;
      for (int p = s.at; mass && p < s.at + s.pieces; ++p) shares[size_t(p) * H + h] /= total;
    }
    for (int p = s.window_pieces; mass && p < s.pieces; ++p) {
      const int64_t lo = int64_t(p - s.window_pieces) * s.size;
      const int64_t n = std::min<int64_t>(s.size, s.entries - lo);
      const float* own = kept.data() + size_t(s.at + p) * H * kMany;
      float* to = mass + t * a.mass_apart;
      for (int h = 0; h < H; ++h) {
        const float part = shares[size_t(s.at + p) * H + h];
        for (int64_t i = 0; i < n; ++i) to[lo + i] += part * own[h * kMany + i];
      }
    }
    if (mass && s.listed) {  // from the places of a list without -1 to those of the list that was given
      const int64_t* given = a.listed + t * a.picks;
      float* to = mass + t * a.mass_apart;
      int64_t n = s.entries;
      for (int64_t i = a.picks - 1; i >= 0; --i) {
        const float own = given[i] >= 0 ? to[--n] : 0.f;
        to[i] = own;
      }
    }
  }
}

}  // namespace octavo
