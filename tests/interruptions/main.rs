//! A program that is killed, a disk that is full, a folder that goes away: files are whole, and work goes on.
//!
//! The suite kills a few times; `run` beside this file does it two hundred times. `RELIABILITY.md` has its last figures.

mod disk;
mod gone;
mod jobs;
mod kill;
