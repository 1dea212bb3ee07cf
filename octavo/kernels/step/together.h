// One token of each of several sequences, from ids to logits, in one call.
//
// Products take the tokens of all sequences side by side, so that a weight comes from memory once for all of them;
// attention, entries and picks are each sequence's own. Every sum has the order that it has in a step of one sequence.
// Rows of a sequence lie one behind the other, so the next step of the same sequences needs nothing but their tokens:
// the call moves every address on by a row.

#pragma once

#include "whole.h"

namespace octavo {

// `ways` [count]: the layers of each sequence, as for `halves`, with `tokens` 1 and neither mass nor picks asked for;
// streams, out, room, table_rows and threads of theirs are not read, and sequences share the weights. `tables` [layers]:
// experts [V, A] by token id of layers that look them up, else null. `best` [count] takes the likeliest ids, of equals
// the lowest, -1 where a logit is NaN; `logits` [count, vocabulary].
struct Together {
  Step* const* const* ways;
  const int64_t* tokens;
  const float *embedding, *fn, *base, *scale, *gain, *head;
  const int64_t* const* tables;
  float* logits;
  int64_t* best;
  int32_t count, layers, vocabulary, threads;
  float eps, norm_eps;
};

// The rows that `of` names, one of each sequence, side by side.
template <class Of>
inline void gather(int count, size_t width, float* to, const Of& of) {
  for (int r = 0; r < count; ++r) std::copy_n(of(r), width, to + r * width);
}

inline void recall_together(const Together& a, int i, float* streams) {
  const Recall& one = *a.ways[0][i]->memory;
  const Layer& l = *a.ways[0][i]->layer;
  const int both = (l.streams + 1) * l.width;
  std::vector<float> rows(size_t(a.count) * one.numbers), keys(size_t(a.count) * both);
  for (int r = 0; r < a.count; ++r) a.ways[r][i]->memory->read(1, rows.data() + size_t(r) * one.numbers);
  run_maps(a.threads, a.count,
           {{one.weight, both, one.numbers, rows.data(), size_t(one.numbers), keys.data(), size_t(both)}});
  std::vector<float> out(size_t(a.count) * l.streams * l.width);
  recall(a.count, l.streams, l.width, l.norm_eps, streams, keys.data(), one.query_gain, one.key_gain, out.data());
  std::copy(out.begin(), out.end(), streams);
}

// Layer i of all sequences: streams [count, M, D] in place. `room` is for what passes between its parts.
inline void layer_together(const Together& a, int i, float* streams, std::vector<float>& room_of) {
  const auto step_of = [&](int r) -> Step& { return *a.ways[r][i]; };
  const Layer& l = *step_of(0).layer;
  const int R = a.count, P = l.pairs;
  const size_t K = l.head_width, HK = l.heads * K, IJ = size_t(l.index_heads) * l.index_width;
  const size_t wide = 2 * size_t(l.raw), narrow = 2 * size_t(l.index_raw);
  const size_t rest = K + wide + narrow + 2 * size_t(P);
  room_of.resize(R * (Room::size(l) + rest));
  const Room room(l, R, room_of.data());
  float* kv = room_of.data() + R * Room::size(l);
  float *raw = kv + R * K, *index_raw = raw + R * wide, *cosine = index_raw + R * narrow, *sine = cosine + R * P;
  gather(R, P, cosine, [&](int r) { return step_of(r).cosine; });
  gather(R, P, sine, [&](int r) { return step_of(r).sine; });
  if (step_of(0).memory) recall_together(a, i, streams);
  enter(a.threads, l, R, [&](int r) { return step_of(r).first; }, streams, cosine, sine, room.links, room.q, kv, raw,
        room.index_q, room.index_w, index_raw);
  for (int r = 0; r < R; ++r) {
    const Step& s = step_of(r);
    std::copy_n(kv + r * K, K, s.window_rows);
    if (wide) std::copy_n(raw + r * wide, wide, s.raw);
    if (narrow) std::copy_n(index_raw + r * narrow, narrow, s.index_raw);
    close(s);
    look(s, a.threads, room.q + r * HK, room.index_q + r * IJ, room.index_w + size_t(r) * l.index_heads,
         room.o + r * HK);
  }
  cross(a.threads, l, R, streams, room.o, room.links, cosine, sine, room.after, room.x, room.next);
  std::vector<int64_t> given(a.tables[i] ? size_t(R) * l.chosen : 0);
  for (int r = 0; a.tables[i] && r < R; ++r)
    std::copy_n(a.tables[i] + a.tokens[r] * l.chosen, l.chosen, given.data() + size_t(r) * l.chosen);
  mix(a.threads, l, R, room.after, room.x, room.next, given.empty() ? nullptr : given.data(), streams);
}

// The sequence's layer reads and writes a row further on from now on.
inline void move_on(Step& s) {
  const Layer& l = *s.layer;
  ++s.first;
  s.past = std::min(s.past + 1, s.window - 1);
  s.window_rows += l.head_width, s.cosine += l.pairs, s.sine += l.pairs;
  if (l.raw) s.raw += 2 * size_t(l.raw);
  if (l.index_raw) s.index_raw += 2 * size_t(l.index_raw);
  if (s.memory) ++s.memory->before, ++s.memory->tokens;
}

inline int64_t best_of(const float* logits, int count) {
  int64_t best = 0;
  for (int v = 0; v < count; ++v) {
    if (logits[v] != logits[v]) return -1;
    if (logits[v] > logits[best]) best = v;
  }
  return best;
}

inline void together(const Together& a) {
  const Layer& first = *a.ways[0][0]->layer;
  const size_t M = first.streams, D = first.width, V = a.vocabulary;
  std::vector<float> streams(a.count * M * D), room;
  for (int r = 0; r < a.count; ++r)
    for (size_t m = 0; m < M; ++m) std::copy_n(a.embedding + a.tokens[r] * D, D, streams.data() + (r * M + m) * D);
  for (int i = 0; i < a.layers; ++i) layer_together(a, i, streams.data(), room);
  head_of(a.threads, a.count, int(M), int(D), a.vocabulary, a.eps, a.norm_eps, streams.data(), a.fn, a.base, a.scale,
          a.gain, a.head, a.logits);
  for (int r = 0; r < a.count; ++r) {
    a.best[r] = best_of(a.logits + r * V, a.vocabulary);
    for (int i = 0; i < a.layers; ++i) move_on(*a.ways[r][i]);
  }
}

}  // namespace octavo
