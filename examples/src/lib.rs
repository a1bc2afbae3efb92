//! Small programs that embed wsstream: see the binaries in `src/bin`.
