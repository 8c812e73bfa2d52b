//! The steps as a state machine: a [`Command`] goes in, [`Event`]s come out, a [`Control`] pauses or cancels.
//!
//! The window and the command line both drive [`Session::apply`], so the same recipe gives the same [`View`] in both.
//! This room knows every room below it and nothing of windows or terminals.

mod autosave;
mod bench;
mod by_hand;
mod by_norm;
mod calibrate;
mod catalog;
mod checkpoint;
mod choose;
mod classifier;
mod code;
mod command;
mod control;
mod convergence;
mod diagnose;
mod enough;
mod error;
mod event;
mod export;
mod foresee;
mod gallery;
mod images;
mod inspect;
mod measure;
mod method;
mod normalization;
mod observers;
mod pick;
mod plant;
mod priority;
mod probe;
mod project;
mod promise;
mod proof;
mod published;
mod qat;
mod recipe;
mod recipe_file;
mod recover;
mod reopen;
mod repair;
mod report;
mod saturation;
mod save;
mod sensitivity;
mod sizes;
mod stage;
mod stale;
mod state;
mod steps;
mod torch_model;
mod trial;
mod view;
mod weigh;
mod worker;

pub use autosave::Unfinished;
pub use bench::{BenchOptions, BenchSubject, Benchmark, Latency, LayerCost, bench, layer_costs, synthetic_pair};
pub use by_hand::{DotProduct, Requantization, WeightLoss, dot_product, pixels, requantization, weight_loss};
pub use by_norm::{FoldExample, Folded, fold_example};
pub use catalog::{Catalog, PublishedWeights, catalog};
pub use checkpoint::CheckpointFile;
pub use classifier::{Classifier, ClassifierOptions};
pub use code::{CodeJob, torch_code, torch_script};
pub use command::{Command, CommandKind, Download};
pub use control::Control;
pub use convergence::{Convergence, Moved, convergence};
pub use diagnose::{Pair, SoFar};
pub use enough::{Calibrated, Enough};
pub use error::SessionError;
pub use event::{Event, Gpus, IfConverted, LogLine, ObserverView, Progress, Severity};
pub use export::{ExportFormat, ExportOptions, Exported, ROUNDED, SelfCheck, export};
pub use foresee::{SampleScore, WhatIf};
pub use gallery::{ClassRow, Preview, class_rows, held_out_thumbnail, preview, thumbnail};
pub use inspect::{Contents, inspect, is_int8_file, save_float};
pub use measure::{Measured, Side, float_bytes};
pub use method::{Method, QatTraining};
pub use observers::ObserverSweep;
pub use pick::{Opened, PreprocessChoice};
pub use plant::plant;
pub use probe::Probe;
pub use project::{KeptRun, Project, ProjectError, Run};
pub use promise::{Goal, Outcome, Promise, PromiseOf, Trial, Verified, promise};
pub use published::{PublishedSizes, published_sizes};
pub use recipe::{Calibration, Recipe, WeightsChoice};
pub use recipe_file::{RecipeError, read_recipe, save_recipe};
pub use reopen::{ReopenOptions, Reopened, reopen};
pub use repair::{Repair, Repaired, Repairs, roundable};
pub use report::ReportJob;
pub use sensitivity::Sweeping;
pub use sizes::{FileSizes, file_sizes};
pub use stage::{FusionProof, QatResult, SiteProof, Stage, Step, StudyResult, Weighted, WeightsOrigin};
pub use state::Session;
pub use view::{StepState, StepView, View};
pub use weigh::{download, ships_weights};
pub use worker::Worker;

// What the faces of a session need of the rooms below it.
pub use crate::analysis::{
    ClassDrop, Confusion, Flip, Guess, LayerBound, LayerError, LayerSaturation, LayerSensitivity, Neighbours, Owed,
    PairBound, Saturation, Sensitivity, Sums, SweepScore, Sweeps, Verdicts, wilson,
};
pub use crate::buffers::{OutOfMemory, caught};
pub use crate::data::{Dataset, Fit, Image, Preprocess, Skipped, Source};
pub use crate::download::{DownloadError, Kept, Place, Transfer};
pub use crate::exec::float::{Device, Gpu};
pub use crate::graph::{
    ActivationSpec, BITS, FEWEST_BITS, ObserverKind, PERCENTILE, QatLevels, Scheme, StepSize, WeightSpec,
};
pub use crate::int8_model::{Likely, likeliest};
pub use crate::kernels::float::{Grid, to_grid, to_grid_grad};
pub use crate::quant::{
    Backend, Biases, Choosable, ConvertReport, Crossing, FuseOptions, FuseReport, FuseSite, Histogram, LayerReport,
    Observers, Override, Pattern, Planted, Problem, QConfig, Range, RangeEffect, Study, Warning, choosable, crossings,
    fake_quantize_weight, quantize_weight,
};
pub use crate::train::{
    EpochReport, FakeQuantRange, Frozen, Optimizer, QatConfig, RangeReport, Score, TrainConfig, TrainEvent,
};
pub use crate::weights::{write_file, write_new_file};
pub use crate::zoo::{ModelConfig, ModelId};
