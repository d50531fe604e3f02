//! The budget of memory: one limit for the process, divided between those who take memory.
//!
//! The kernel kills a process that takes more than it may, and with it everything that ran well. So
//! the process refuses first, and refuses the newest cost: new series before series that are known,
//! a query before what is stored. Two things tell how much is taken:
//!
//! - **accounts**: what a query asks for is counted before it is allocated, see [`Account`];
//! - **measurement**: a thread reads how much anonymous memory the process has. It catches what no
//!   account knows, such as the room between allocations and a body that grows when it is decoded.
//!
//! | share of the limit | what |
//! |---|---|
//! | 1/2 | series and samples of heads; above it no new series is taken |
//! | 1/4 | samples of heads alone; above it they are written to blocks early |
//! | 1/4 | queries, all together |
//! | 1/64 | what is kept of blocks for queries to come |
//! | 75 % measured | no new series; half as much is kept of blocks |
//! | 85 % measured | queries wait before they begin; nothing is kept of blocks |
//! | 95 % measured | the query that holds most is stopped |

mod account;
mod budget;
mod system;

pub use account::{Account, Held, Refused, Room};
pub use budget::{Governor, Row, Settings};
pub use system::{Memory, memory_below};
