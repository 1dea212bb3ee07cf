// A layer of a step over one sequence in the cache: everything but what Python keeps account of.
//
// New rows are written where the cache keeps them, straight behind the rows before them. Between the two halves Python
// brings the index's coarse keys up to date, where the first half completed entries.

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

// What a step of the tokens first .. first + tokens - 1 reads and writes. `window_rows`, `raw`, `index_raw`: where the new
// rows go; `past` window rows lie before them, and the raw rows of every group that is still open, and of the one before.
// `room`: floats for what passes between the halves. `picked` [T, picks] and `mass` null unless they are asked for.
struct Step {
  const Layer* layer;
  const float *streams, *cosine, *sine;
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
};

// How `room` is divided.
struct Room {
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

inline void first_half(const Step& s) {
  const Layer& l = *s.layer;
  const Room room(l, s.tokens, s.room);
  enter(s.threads, l, s.tokens, s.first, s.streams, s.cosine, s.sine, room.links, room.q, s.window_rows, s.raw,
        room.index_q, room.index_w, s.index_raw);
  if (l.raw) complete(s, s.main, s.raw, l.raw, l.head_width, l.main_norm, false);
  if (l.index_raw) complete(s, s.index, s.index_raw, l.index_raw, l.index_width, l.index_norm, true);
}

inline void second_half(const Step& s) {
  const Layer& l = *s.layer;
  const Room room(l, s.tokens, s.room);
  const int64_t length = l.ratio ? (s.first + s.tokens) / l.ratio : 0;
  std::vector<int64_t> own;
  int64_t* picks = s.picked;
  if (s.sight == kBestEntries) {
    if (!picks) own.resize(size_t(s.tokens) * s.picks), picks = own.data();
    s.select(reinterpret_cast<void*>(s.run), s.threads, s.level, room.index_q, room.index_w, s.tokens, l.index_heads,
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
  attend(s.threads, call, room.q, room.o, s.mass);
  cross(s.threads, l, s.tokens, s.streams, room.o, room.links, s.cosine, s.sine, room.after, room.x, room.next);
  mix(s.threads, l, s.tokens, room.after, room.x, room.next, s.table_rows, s.out);
}

}  // namespace octavo
