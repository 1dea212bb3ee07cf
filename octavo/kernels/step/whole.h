// The layers of a step over one sequence in the cache: everything but what Python keeps account of.
//
// New rows are written where the cache keeps them, straight behind the rows before them. A layer has two halves. Between
// them Python brings the index's coarse keys up to date, where the first half completed the last entry of a block.

#pragma once

#include <cstring>
#include <vector>

#include "attend.h"
#include "parts.h"

namespace octavo {

// `octavo_select` of index_topk/scan.cpp.
using Select = void (*)(void* run, int threads, int level, const float* q, const float* w, int S, int I, int J,
                        int64_t first, int64_t ratio, int64_t length, int k, const void* places, int count,
                        int64_t block, int best, const void* coarse_places, int coarse_count, int64_t* picks);

// Entries of a store in stretches: stretch p holds entries starts[p] .. from rows[p] on. `places`: the same for the scan.
struct Store {
  int64_t count;
  const int64_t* starts;
  float* const* rows;
  const void* places;
};

enum Sight : int32_t { kWindowOnly, kEveryEntry, kBestEntries };

// What a layer recalls before it begins: table rows by hashes of the last `ngram` tokens' ids (`engram_lookup`), times
// `weight` [(streams + 1) width, numbers]. `before`: the `known` ids before those of the step's `tokens`; before these
// stands `pad`. `smaller` maps ids to those that are hashed. Rows that were read already are `memory` [T, numbers], else
// null. `recalled` takes the streams behind that.
struct Recall {
  const int64_t *before, *tokens, *smaller, *multipliers, *moduli, *offsets;
  const float *table, *memory, *weight, *query_gain, *key_gain;
  float* recalled;
  int64_t pad;
  int32_t known, ngram, heads, row, numbers, padding;

  // Rows of the table side by side, [T, numbers].
  void read(int T, float* out) const {
    for (int t = 0; t < T; ++t) {
      uint64_t mixed = uint64_t(smaller[tokens[t]]) * uint64_t(multipliers[0]);
      for (int n = 1; n < ngram; ++n) {
        const int at = t - n;
        const int64_t id = at >= 0 ? tokens[at] : known + at >= 0 ? before[known + at] : pad;
        mixed ^= uint64_t(smaller[id]) * uint64_t(multipliers[n]);
        for (int j = (n - 1) * heads; j < n * heads; ++j, out += row)
          std::memcpy(out, table + size_t(mixed % uint64_t(moduli[j]) + offsets[j]) * row, row * sizeof(float));
      }
    }
  }
};

// What a step of the tokens first .. first + tokens - 1 reads and writes. `window_rows`, `raw`, `index_raw`: where the new
// rows go; `past` window rows lie before them, and the raw rows of every group that is still open, and of the one before.
// `room`: floats for what passes between the halves. `picked` [T, picks] and `mass` null unless they are asked for.
// `memory` is null where the layer recalls nothing. Several layers may share room.
struct Step {
  const Layer* layer;
  const float *streams, *cosine, *sine;
  Recall* memory;
  const double* frequencies;
  float *out, *room, *window_rows, *raw, *index_raw, *mass;
  int64_t* picked;
  const int64_t* table_rows;
  Store main, index, coarse;
  Select select;
  void (*run)(int, int, Item, void*);
  int64_t first, block, mass_apart;
  int32_t tokens, threads, past, window, sight, level, picks, best;
  float scale, offset;

  // What the layer itself reads.
  const float* entering() const { return memory ? memory->recalled : streams; }
};

// How `room` is divided; `size` numbers a token.
struct Room {
  static size_t size(const Layer& l) {
    return 2 * size_t(link_size(l.streams)) + 2 * size_t(l.heads) * l.head_width +
           size_t(l.index_heads) * (1 + l.index_width) + size_t(l.streams + 1) * l.width;
  }

  float *links, *q, *index_q, *index_w, *o, *after, *x, *next;

  Room(const Layer& l, int T, float* at) {
    const size_t HK = size_t(l.heads) * l.head_width, IJ = size_t(l.index_heads) * l.index_width;
    auto take = [&](size_t n) { return at += T * n, at - T * n; };
    links = take(link_size(l.streams)), next = take(link_size(l.streams));
    q = take(HK), o = take(HK);
    index_q = take(IJ), index_w = take(l.index_heads);
    after = take(size_t(l.streams) * l.width), x = take(l.width);
  }
};

// The entries that the new tokens complete, from raw rows into their store.
inline void complete(const Step& s, const Store& store, const float* raw, int raw_width, int width, const float* gain,
                     bool index) {
  const Layer& l = *s.layer;
  const bool overlap = raw_width == 2 * width;
  const int64_t start = s.first / l.ratio, stop = (s.first + s.tokens) / l.ratio, previous = overlap && start > 0;
  if (stop == start) return;
  std::vector<float> made(size_t(stop - start) * width);
  const float* since = raw - (s.first - (start - previous) * l.ratio) * 2 * raw_width;
  close_entries(int(stop - start), l.ratio, overlap, int(previous), width, l.pairs, index, start, l.norm_eps, since, gain,
                s.frequencies, made.data());
  for (int64_t e = start; e < stop; ++e) {
    int64_t p = 0;
    while (p + 1 < store.count && store.starts[p + 1] <= e) ++p;
    std::memcpy(store.rows[p] + (e - store.starts[p]) * width, made.data() + (e - start) * width, width * sizeof(float));
  }
}

// All entries that the new tokens complete.
inline void close(const Step& s) {
  const Layer& l = *s.layer;
  if (l.raw) complete(s, s.main, s.raw, l.raw, l.head_width, l.main_norm, false);
  if (l.index_raw) complete(s, s.index, s.index_raw, l.index_raw, l.index_width, l.index_norm, true);
}

inline void recall_all(const Step& s, const Recall& r) {
  const Layer& l = *s.layer;
  const int both = (l.streams + 1) * l.width;
  std::vector<float> rows(r.memory ? 0 : size_t(s.tokens) * r.numbers), keys(size_t(s.tokens) * both);
  if (!r.memory) r.read(s.tokens, rows.data());
  const float* memory = r.memory ? r.memory : rows.data();
  run_maps(s.threads, s.tokens, {{r.weight, both, r.numbers, memory, size_t(r.numbers), keys.data(), size_t(both)}});
  recall(s.tokens, l.streams, l.width, l.norm_eps, s.streams, keys.data(), r.query_gain, r.key_gain, r.recalled);
}

inline void first_half(const Step& s) {
  const Layer& l = *s.layer;
  const Room room(l, s.tokens, s.room);
  if (s.memory) recall_all(s, *s.memory);
  const auto number_of = [&s](int t) { return s.first + t; };
  enter(s.threads, l, s.tokens, number_of, s.entering(), s.cosine, s.sine, room.links, room.q, s.window_rows, s.raw,
        room.index_q, room.index_w, s.index_raw);
  close(s);
}

// Attention o [T, H, K] of queries q, behind `close`; entries are picked by index_q and index_w.
inline void look(const Step& s, int threads, const float* q, const float* index_q, const float* index_w, float* o) {
  const Layer& l = *s.layer;
  const int64_t length = l.ratio ? (s.first + s.tokens) / l.ratio : 0;
  std::vector<int64_t> own;
  int64_t* picks = s.picked;
  if (s.sight == kBestEntries) {
    if (!picks) own.resize(size_t(s.tokens) * s.picks), picks = own.data();
    s.select(reinterpret_cast<void*>(s.run), threads, s.level, index_q, index_w, s.tokens, l.index_heads,
             l.index_width, s.first, l.ratio, length, s.picks, s.index.places, int(s.index.count), s.block, s.best,
             s.coarse.places, int(s.coarse.count), picks);
  }
  Attention call{};
  call.queries = s.tokens, call.heads = l.heads, call.width = l.head_width, call.window = s.window, call.past = s.past;
  call.first = s.first, call.scale = s.scale, call.offset = s.offset, call.sink = l.sink, call.mass_apart = s.mass_apart;
  call.near = s.window_rows - size_t(s.past) * l.head_width;
  if (s.sight != kWindowOnly) {
    call.parts = int(s.main.count), call.starts = s.main.starts, call.rows = s.main.rows;
    call.ratio = l.ratio, call.length = length;
    if (s.sight == kBestEntries) call.listed = picks, call.picks = s.picks;
  }
  attend(threads, call, q, o, s.mass);
}

inline void second_half(const Step& s) {
  const Layer& l = *s.layer;
  const Room room(l, s.tokens, s.room);
  look(s, s.threads, room.q, room.index_q, room.index_w, room.o);
  cross(s.threads, l, s.tokens, s.entering(), room.o, room.links, s.cosine, s.sine, room.after, room.x, room.next);
  mix(s.threads, l, s.tokens, room.after, room.x, room.next, s.table_rows, s.out);
}

// Halves begin .. end - 1 of a stack of layers: half 2 i is the first one of layer i.
inline void halves(const Step* const* layers, int begin, int end) {
  for (int half = begin; half < end; ++half) (half % 2 ? second_half : first_half)(*layers[half / 2]);
}

}  // namespace octavo
