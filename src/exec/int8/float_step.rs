use super::step::{Place, Step};
use crate::{
    exec::float::Layer,
    graph::QParams,
    kernels::{
        Levels, Map, dequantize_values, fake_quantize,
        float::{Float, Threads, to_nchw, to_nhwc},
        quantize_values,
    },
};

const APART: &str = "the arena keeps buffers of one step apart";

impl Step {
    /// The image, channels outermost, to values.
    pub(super) fn load_image(&self, image: &[f32], arena: &mut [u8]) {
        let Map { h, w, c, .. } = self.output.map;
        to_nhwc(image, c, h * w, values_mut(&mut arena[self.output.range.clone()], self.output.map));
    }

    /// Values to the levels of a quantize.
    pub(super) fn quantize(&self, scale: f32, levels: Levels, arena: &mut [u8]) {
        let (x, to) = (&self.inputs[0], &self.output);
        let [a, out] = arena.get_disjoint_mut([x.range.clone(), to.range.clone()]).expect(APART);
        quantize_values(values(a, x.map), scale, levels, (out, to.map));
        to.map.fill_border(out, self.zero_point);
    }

    /// Levels to the values of a dequantize.
    pub(super) fn dequantize(&self, scale: f32, zero_point: u8, arena: &mut [u8]) {
        let (x, to) = (&self.inputs[0], &self.output);
        let [a, out] = arena.get_disjoint_mut([x.range.clone(), to.range.clone()]).expect(APART);
        dequantize_values((a, x.map), scale, zero_point, values_mut(out, to.map));
    }

    /// Runs a float layer between buffers of the arena.
    pub(super) fn run_float(&self, layer: &Layer, threads: &Threads, arena: &mut [u8]) {
        let to = &self.output;
        let run = |inputs: &[&[f32]], out: &mut [u8]| {
            let out = values_mut(out, to.map);
            threads.run(|| layer.run(1, inputs, out));
        };
        match &self.inputs[..] {
            [x] => {
                let [a, out] = arena.get_disjoint_mut([x.range.clone(), to.range.clone()]).expect(APART);
                run(&[values(a, x.map)], out);
            }
            [x, y] if x.range == y.range => {
                let [a, out] = arena.get_disjoint_mut([x.range.clone(), to.range.clone()]).expect(APART);
                run(&[values(a, x.map), values(a, y.map)], out);
            }
            [x, y] => {
                let ranges = [x.range.clone(), y.range.clone(), to.range.clone()];
                let [a, b, out] = arena.get_disjoint_mut(ranges).expect(APART);
                run(&[values(a, x.map), values(b, y.map)], out);
            }
            inputs => unreachable!("a step of {} inputs", inputs.len()),
        }
    }

    /// Values moved to levels, where they lie.
    pub(super) fn fake_quantize(&self, q: QParams, threads: &Threads, arena: &mut [u8]) {
        let Place { range, map } = &self.output;
        let y = values_mut(&mut arena[range.clone()], *map);
        threads.run(|| {
            f32::with_scratch(y.len(), |x| {
                x.copy_from_slice(y);
                fake_quantize(x, q.scale, q.zero_point, q.qmax, y);
            });
        });
    }

    /// Values to logits, channels outermost.
    pub(super) fn unload(&self, arena: &[u8], logits: &mut Vec<f32>) {
        let Place { range, map } = &self.inputs[0];
        let first = logits.len();
        logits.resize(first + map.len(), 0.0);
        to_nchw(values(&arena[range.clone()], *map), map.c, map.h * map.w, &mut logits[first..]);
    }
}

/// The values in a buffer, which the arena aligns.
fn values(buffer: &[u8], map: Map) -> &[f32] {
    bytemuck::cast_slice(&buffer[..size_of::<f32>() * map.len()])
}

fn values_mut(buffer: &mut [u8], map: Map) -> &mut [f32] {
    bytemuck::cast_slice_mut(&mut buffer[..size_of::<f32>() * map.len()])
}
