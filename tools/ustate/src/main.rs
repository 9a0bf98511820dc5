//! ustate
fn main() {}
