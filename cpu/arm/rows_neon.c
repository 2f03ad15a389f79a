// Products with weights as the file holds them, NEON: the types that most files are of.
#include "cpu/arm/arm.h"
#include "cpu/arm/blocks_neon.h"
#include "cpu/no_lanes.h"
#include "cpu/rows_panel.h"

STK_ROWS_OF(q8_0, neon, .bytes = 34)
STK_ROWS_OF(q4_k, neon, .bytes = 144, .is_super = true, .is_unsigned = true)
STK_ROWS_OF(q5_k, neon, .bytes = 176, .is_super = true, .is_unsigned = true)
STK_ROWS_OF(q6_k, neon, .bytes = 210, .is_super = true, .has_sub = true)
