//! Small programs that embed wsstream: see the binaries in `src/bin`. What does not fit into one of them is here.

pub mod cri;
