//! Tests of the whole: operations on a small fake machine.

mod basic;
mod model;
mod race;
mod versions;
mod world;
