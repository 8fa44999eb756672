//! The tools of plugin authors: each runs the very `.wasm` that will ship in the very host code of the gateway, without a gateway around it.
//! `sluicegate plugin test`, `bench`, `simulate` and `replay` are thin commands over this.
//!
//! [`subject`] loads what is looked at; [`generate`] and [`requests`] make pools and requests from a seed, [`profile`] says what endpoints are like. [`certify`] tells whether a plugin keeps its
//! contract, [`mod@bench`] what its calls cost, [`simulate`] how a service would fare
//! with it, [`replay`] what it would have decided where another one did.

pub mod bench;
pub mod certify;
pub mod generate;
pub mod profile;
pub mod replay;
pub mod requests;
pub mod simulate;
pub mod subject;

/// Rows of cells, the head first, as every report is shown on a terminal.
pub type Rows = Vec<Vec<String>>;

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}
