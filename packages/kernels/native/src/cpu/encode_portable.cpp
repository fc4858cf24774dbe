#include "cpu/encode_body.h"

namespace pkv::cpu {

const EncodeKernels encode_portable = {encode_block<64>, encode_block<128>, encode_block<256>};

}  // namespace pkv::cpu
