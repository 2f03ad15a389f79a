// What the two halves of an expert share: the list of (activation row, slot) pairs, and of tiles.
const uint TILE_ROWS = 4;

struct Pair {
    Vectors slot; // the expert's slot: X16 gate, then a bundle of up and down
    uint row;     // of the activations; of a tile the first pair
    uint count;   // of a tile: its pairs, at most TILE_ROWS, all of this slot
};
layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer Pairs { Pair p[]; };
