//! Single layers over three steps, whole tensors: outputs, gradients, states, ranges, then frozen and as int8.

use octet::{
    exec::{
        float::{Device, Model, Trainable},
        int8::{Plan, PlanOptions},
    },
    graph::{FakeQuants, Graph, LearnedRange, Numeric, QatLevels, Tensor, Weight},
    quant::{self, Backend, FuseOptions, QConfig},
};

use crate::{
    compare::{absolute, equal, of_largest, of_largest_or_a_level, relative, wide},
    golden::{UnitRecord, Units, ensure, folder, is_there},
    network::{EVALUATION, GO_ON, in_graph_layout, stepper, text, trainable},
    synth,
    unit_graphs::{self, Inputs},
};

/// What the golden page calls honest.
const TOLERANCE: f64 = 1e-5;

struct Unit<'a> {
    golden: &'a Units,
    name: &'a str,
    record: &'a UnitRecord,
    graph: Graph,
    inputs: Inputs,
    batch: usize,
}

pub fn compare(golden: &Units, name: &str) -> Result<(), String> {
    let record = golden.units.get(name).ok_or_else(|| format!("no unit `{name}`"))?;
    let (graph, inputs) = unit_graphs::graph(name, record, golden.recipe.seed)?;
    let (graph, _) = quant::fuse_qat(&graph, &FuseOptions::default()).map_err(text)?;
    let (graph, _) = quant::prepare_qat(&graph, &QConfig::qat(Backend::X86)).map_err(text)?;
    let unit = Unit { golden, name, record, graph, inputs, batch: record.inputs[0][0] };
    let mut model = trainable(&unit.graph)?;
    let mut stepper = stepper(&golden.recipe, &model);
    for k in 0..golden.recipe.steps {
        let pass = model.forward(&unit.image(k, 1.0 + k as f64 / 2.0), unit.batch, 0, &GO_ON).map_err(text)?;
        let y = pass.logits().map_err(text)?;
        let state = model.fake_quants().map_err(text)?;
        unit.compare_ranges(k, &state)?;
        unit.compare_output(&format!("{k}.y"), &y, &format!("{k}."))?;
        let upstream = synth::uniform(&format!("{name}/upstream/{k}"), golden.recipe.seed, y.len());
        let gradient: Vec<f32> = upstream.map(|u| (2.0 * u - 1.0) as f32 / 2.0).collect();
        let (gradients, image) = model.backward_to_images(pass, &gradient, &GO_ON).map_err(text)?;
        unit.compare_input_gradients(k, &image)?;
        unit.compare_gradients(k, &model, &gradients)?;
        stepper.step(model.parameters(), &gradients, golden.recipe.lr).map_err(text)?;
        unit.compare_states(k, &model.graph().map_err(text)?)?;
    }
    unit.compare_frozen(&mut model)?;
    unit.compare_int8()
}

impl Unit<'_> {
    fn expected(&self, what: &str) -> Result<&[f64], String> {
        self.golden.tensors.get(&format!("{}.{what}", self.name))
    }

    fn title(&self, what: &str) -> String {
        format!("{}.{what}", self.name)
    }

    /// The unit's inputs of that number as the one image of its graph, `factor` times as large.
    fn image(&self, number: usize, factor: f64) -> Vec<f32> {
        let seed = self.golden.recipe.seed;
        let inputs: Vec<Vec<f32>> = (0..self.record.inputs.len())
            .map(|j| {
                let count = self.record.inputs[j].iter().product();
                let numbers = synth::uniform(&format!("{}/input{j}/{number}", self.name), seed, count);
                numbers.map(|u| ((2.0 * u - 1.0) * factor * (1.0 + j as f64)) as f32).collect()
            })
            .collect();
        if self.inputs == Inputs::One {
            return inputs.into_iter().flatten().collect();
        }
        let half = self.graph.input_shape().len() / 2;
        let mut image = Vec::new();
        for i in 0..self.batch {
            for input in &inputs {
                let of = &input[i * input.len() / self.batch..(i + 1) * input.len() / self.batch];
                let repeated = half / of.len();
                image.extend(of.iter().flat_map(|v| std::iter::repeat_n(*v, repeated)));
            }
        }
        image
    }

    /// Width of a level of the unit's output, from the file.
    fn level(&self, prefix: &str) -> Result<f64, String> {
        Ok(*self.expected(&format!("{prefix}act_scale"))?.last().ok_or("no scale")?)
    }

    fn compare_output(&self, what: &str, y: &[f32], prefix: &str) -> Result<(), String> {
        let level = self.level(prefix)?;
        of_largest_or_a_level(&self.title(what), &wide(y), self.expected(what)?, TOLERANCE, level)
    }

    fn compare_input_gradients(&self, k: usize, image: &[f32]) -> Result<(), String> {
        let images = image.chunks_exact(image.len() / self.batch);
        for j in 0..self.record.inputs.len() {
            let what = format!("{k}.grad.input{j}");
            let of = |image: &[f32]| -> Vec<f32> {
                let half = image.len() / 2;
                match self.inputs {
                    Inputs::One => image.to_vec(),
                    Inputs::PixelAndHalf if j == 0 => {
                        let pixels = half / (self.record.inputs[0][1]);
                        image[..half].chunks_exact(pixels).map(|plane| plane.iter().sum()).collect()
                    }
                    Inputs::Halves | Inputs::PixelAndHalf => image[j * half..(j + 1) * half].to_vec(),
                }
            };
            let found: Vec<f32> = images.clone().flat_map(of).collect();
            of_largest(&self.title(&what), &wide(&found), self.expected(&what)?, TOLERANCE)?;
        }
        Ok(())
    }

    fn compare_gradients(
        &self,
        k: usize,
        model: &Trainable,
        gradients: &[Option<candle_core::Tensor>],
    ) -> Result<(), String> {
        for (key, shape) in &self.record.params {
            let at = model.parameters().iter().position(|p| p.key == *key);
            let gradient =
                at.and_then(|at| gradients[at].as_ref()).ok_or_else(|| format!("`{key}` has no gradient"))?;
            let what = format!("{k}.grad.{key}");
            let found = wide(&in_graph_layout(gradient, shape));
            // Batch norm leaves it next to no gradient.
            if (self.name, key.as_str()) == ("one_signed_bn", "op.0.weight") {
                absolute(&self.title(&what), &found, self.expected(&what)?, 1e-4)?;
            } else {
                of_largest(&self.title(&what), &found, self.expected(&what)?, TOLERANCE)?;
            }
        }
        Ok(())
    }

    fn compare_states(&self, k: usize, trained: &Graph) -> Result<(), String> {
        for param in trained.params() {
            let what = format!("{k}.state.{}", trained.key(&param));
            of_largest(&self.title(&what), &wide(&param.tensor.data), self.expected(&what)?, TOLERANCE)?;
        }
        Ok(())
    }

    /// Ranges, and the levels that follow from them: from ours within the tolerance, from the file's exactly.
    fn compare_ranges(&self, k: usize, state: &FakeQuants) -> Result<(), String> {
        let theirs = self.ranges(k)?;
        let int8 = quant::qat_qparams(&self.graph, &theirs, QatLevels::PyTorch).map_err(text)?;
        let of = |what: &str| self.expected(&format!("{k}.act_{what}"));
        for (i, name) in self.record.act_fake_quants.iter().enumerate() {
            let node = self.graph.node(self.graph.require(name).map_err(text)?);
            let title = |what: &str| self.title(&format!("{k}.act_{what} of {name}"));
            let spec = match node.numeric {
                Numeric::Learned(spec) => spec,
                Numeric::FakeQuantized(q) => {
                    equal(
                        &title("scale"),
                        &[q.scale.into(), q.zero_point.into()],
                        &[of("scale")?[i], of("zero_point")?[i]],
                    )?;
                    continue;
                }
                other => return Err(format!("`{name}` is {other:?}")),
            };
            let ours = &state.activations[name];
            let found = [f64::from(ours.min[0]), f64::from(ours.max[0])];
            of_largest(&title("min and max"), &found, &[of("min")?[i], of("max")?[i]], TOLERANCE)?;
            let q = ours.activation_levels(&spec);
            relative(&title("scale"), &[q.scale.into()], &of("scale")?[i..=i], TOLERANCE)?;
            equal(&title("zero_point"), &[q.zero_point.into()], &of("zero_point")?[i..=i])?;
            let (trained, converted) = (theirs.activations[name].activation_levels(&spec), int8[name]);
            for (q, scale, zero) in
                [(trained, "scale", "zero_point"), (converted, "convert_scale", "convert_zero_point")]
            {
                equal(&title(scale), &[q.scale.into(), q.zero_point.into()], &[of(scale)?[i], of(zero)?[i]])?;
            }
        }
        for name in &self.record.weight_fake_quants {
            let node = self.graph.node(self.graph.require(name).map_err(text)?);
            let spec = node.op.fake().ok_or_else(|| format!("`{name}` is not fake-quantized"))?;
            let of = |what: &str| self.expected(&format!("{k}.weight_{what}"));
            let title = |what: &str| self.title(&format!("{k}.weight_{what}"));
            let ours = &state.weights[name];
            of_largest(&title("min"), &wide(&ours.min), of("min")?, TOLERANCE)?;
            of_largest(&title("max"), &wide(&ours.max), of("max")?, TOLERANCE)?;
            let split = |range: &LearnedRange| -> (Vec<f64>, Vec<f64>) {
                let levels = range.weight_levels(&spec, QatLevels::PyTorch);
                levels.into_iter().map(|(s, z)| (f64::from(s), f64::from(z))).unzip()
            };
            let (scales, zero_points) = split(ours);
            relative(&title("scale"), &scales, of("scale")?, TOLERANCE)?;
            equal(&title("zero_point"), &zero_points, of("zero_point")?)?;
            let (scales, zero_points) = split(&theirs.weights[name]);
            equal(&title("scale from PyTorch's range"), &scales, of("scale")?)?;
            equal(&title("zero_point from PyTorch's range"), &zero_points, of("zero_point")?)?;
        }
        Ok(())
    }

    /// PyTorch's ranges after step `k`.
    fn ranges(&self, k: usize) -> Result<FakeQuants, String> {
        let mut state = FakeQuants::default();
        let of = |what: &str| self.golden.tensors.f32(&format!("{}.{k}.{what}", self.name));
        let (min, max) = (of("act_min")?, of("act_max")?);
        for (i, name) in self.record.act_fake_quants.iter().enumerate() {
            let node = self.graph.node(self.graph.require(name).map_err(text)?);
            if matches!(node.numeric, Numeric::Learned(_)) {
                let range = LearnedRange { min: vec![min[i]], max: vec![max[i]], step: Vec::new() };
                state.activations.insert(name.clone(), range);
            }
        }
        for name in &self.record.weight_fake_quants {
            let range = LearnedRange { min: of("weight_min")?, max: of("weight_max")?, step: Vec::new() };
            state.weights.insert(name.clone(), range);
        }
        Ok(state)
    }

    /// Observers off, batch norm frozen, evaluated: by the trainable graph, and by the one that is made for it.
    fn compare_frozen(&self, model: &mut Trainable) -> Result<(), String> {
        let image = self.image(1000, 1.5);
        model.set_phase(EVALUATION);
        let y = model.forward(&image, self.batch, 0, &GO_ON).and_then(|p| p.logits()).map_err(text)?;
        let last = format!("{}.", self.golden.recipe.steps - 1);
        self.compare_output("frozen.y", &y, &last)?;
        let (trained, state) = (model.graph().map_err(text)?, model.fake_quants().map_err(text)?);
        let (fake, _) = quant::fake_quantize_qat(&trained, &state, QatLevels::PyTorch).map_err(text)?;
        let y = Model::new(&fake, &Device::Cpu).and_then(|m| m.run(&image, self.batch)).map_err(text)?;
        self.compare_output("frozen.y", &y, &last)
    }

    /// Converted from PyTorch's own weights and ranges: integer for integer.
    fn compare_int8(&self) -> Result<(), String> {
        let last = self.golden.recipe.steps - 1;
        let mut values = std::collections::HashMap::new();
        for param in self.graph.params() {
            let key = self.graph.key(&param);
            let data = self.golden.tensors.f32(&format!("{}.{last}.state.{key}", self.name))?;
            values.insert(key, Tensor::new(param.tensor.shape.clone(), data));
        }
        let trained = self.graph.with_params(&values);
        let (int8, _) = quant::convert_qat(&trained, &self.ranges(last)?, QatLevels::PyTorch).map_err(text)?;
        for name in &self.record.weight_fake_quants {
            let node = int8.node(int8.require(name).map_err(text)?);
            let Some(Weight::Int8(weight)) = node.op.weight() else { return Err(format!("`{name}` is not int8")) };
            let levels: Vec<f64> = weight.data.iter().map(|q| f64::from(*q)).collect();
            equal(&self.title("int8.weight"), &levels, self.expected("int8.weight")?)?;
            equal(&self.title("int8.weight_scale"), &wide(&weight.scales), self.expected("int8.weight_scale")?)?;
        }
        let mut plan = Plan::new(&int8, &PlanOptions { isa: None, threads: 1 }).map_err(text)?;
        let y = plan.run(&self.image(1000, 1.5), self.batch);
        equal(&self.title("int8.y"), &wide(&y), self.expected("int8.y")?)
    }
}

#[test]
fn every_unit() {
    if !is_there("units") {
        return;
    }
    let golden = Units::read(&folder()).expect("the pair of units");
    let failures: Vec<String> = golden.units.keys().filter_map(|name| compare(&golden, name).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(ensure(golden.units.len() == 13, String::new).is_ok(), "{} units", golden.units.len());
}
