// Where rows lie: in tables[run][slot], or, without tables, in up to three arrays. The run is the grid's y.
#pragma once
#include "shim.h"

struct Place {
  const u64* tables;
  int slots;
  u64* base[3];
  u64 stride[3];
  DEVICE u64* start(int slot) const {
    if (tables) return (u64*)tables[(u64)BLOCK_Y * slots + slot];
    return slot == 0   ? base[0] + BLOCK_Y * stride[0]
           : slot == 1 ? base[1] + BLOCK_Y * stride[1]
                       : base[2] + BLOCK_Y * stride[2];
  }
  DEVICE u64* at(int slot, int row, int log_n) const { return start(slot) + ((u64)row << log_n); }
};
