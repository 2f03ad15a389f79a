// What the two halves of an expert share: the list of (activation row, slot) pairs.
struct Pair {
    Vectors slot; // the expert's slot: X16 gate, then a bundle of up and down
    uint row;     // of the activations
    uint unused;
};
layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer Pairs { Pair p[]; };
