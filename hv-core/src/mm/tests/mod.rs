//! Tests of the page-table core on a made-up machine.

mod caches;
mod checker;
mod domains;
mod interrupted;
mod machine;
mod model;
mod ptdecode;
mod ptwrite;
mod scenarios;
mod threads;
