// What the shaders of a block share: the rows of a batch, and a block of activations.

layout(buffer_reference, std430, buffer_reference_align = 16) buffer Vec4s { vec4 v[]; };

// The batch: row r is at position w[2 + 2r] of sequence w[3 + 2r]; w[0] is how many there are.
uint batch_rows(Words batch)
{
    return batch.w[0];
}

uint position_of(Words batch, uint row)
{
    return batch.w[2 + 2 * row];
}

uint sequence_of(Words batch, uint row)
{
    return batch.w[3 + 2 * row];
}

// A block of activations is x[capacity][n], y[capacity][n], q[capacity][n] (bytes),
// d[capacity][n/32] and sum[capacity][n/32], one after the other (vulkan/dense_impl.h): the
// residual stream, its norm, and that quantised.
void store_act(Words to, uint capacity, uint n, uint row, uint i, vec4 x, vec4 y, uint q, float d,
               int sum)
{
    Vec4s floats = Vec4s(to);
    uint all = capacity * n, block = 2 * all + all / 4 + (row * n + i) / 32;
    floats.v[(row * n + i) / 4] = x;
    floats.v[(all + row * n + i) / 4] = y;
    to.w[2 * all + (row * n + i) / 4] = q;
    if (i % 32 == 0) {
        to.w[block] = floatBitsToUint(d);
        to.w[block + all / 32] = uint(sum);
    }
}
