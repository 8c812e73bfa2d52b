//! Octet against PyTorch 2.9: `tests/golden` holds what PyTorch computed for six models with synthetic weights, which
//! are made again here from their names. `OCTET_GOLDEN` names another folder of the same form.

mod golden;
mod int8;
mod observers;
mod synth;
mod weights;
