//! The engines: each a function that computes a problem in NCHW.

use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use prost::Message;
use sepconv::testing::{Activation, Case, FilterOrder, Problem, Reply};
use tract_onnx::prelude::{Framework, InferenceModelExt, IntoRunnable, Tensor, TypedRunnableModel, tvec};

use crate::onnx;

/// An engine that is not ours.
pub trait Engine {
    fn name(&self) -> String;

    /// Computes a problem, whose layout is NCHW.
    fn run(&mut self, problem: &Problem, output: &mut [f32]) -> Result<Reply>;
}

/// tract, given an ONNX model, which it optimises.
#[derive(Default)]
pub struct Tract {
    /// A case is run several times.
    last: Option<(Case, std::sync::Arc<TypedRunnableModel>)>,
}

impl Engine for Tract {
    fn name(&self) -> String {
        "tract".into()
    }

    fn run(&mut self, problem: &Problem, output: &mut [f32]) -> Result<Reply> {
        if self.last.as_ref().is_none_or(|(case, _)| case != problem.case()) {
            let model = onnx::model(problem);
            let plan = tract_onnx::onnx().model_for_read(&mut &model.encode_to_vec()[..])?;
            self.last = Some((problem.case().clone(), plan.into_optimized()?.into_runnable()?));
        }
        let Some((_, plan)) = &self.last else { unreachable!() };
        let shape = problem.input_shape();
        let input = Tensor::from_shape(&[shape.n, shape.c, shape.h, shape.w], problem.input())?;
        let results = plan.run(tvec!(input.into()))?;
        for (result, part) in results.iter().zip(problem.split(output)) {
            let result = result.to_plain_array_view::<f32>()?;
            copy(result.iter().copied(), result.len(), part)?;
        }
        Ok(Reply::Computed)
    }
}

/// candle's `conv2d` on the CPU, with a bias added behind it.
pub struct Candle;

impl Engine for Candle {
    fn name(&self) -> String {
        "candle".into()
    }

    fn run(&mut self, problem: &Problem, output: &mut [f32]) -> Result<Reply> {
        use candle_core::{Device, Tensor};
        let (conv, input, outputs) = (problem.conv(), problem.input_shape(), problem.output_shape().c);
        let ([kh, kw], pads) = (conv.kernel(), conv.pads());
        // what its interface can say; `Cases::uniform` draws nothing else
        let one = |[a, b]: [usize; 2]| (a == b).then_some(a);
        let (Some(stride), Some(dilation)) = (one(conv.strides()), one(conv.dilations())) else {
            return Ok(Reply::Unsupported);
        };
        if [pads.bottom, pads.left, pads.right] != [pads.top; 3] || conv.activation() != Activation::Linear {
            return Ok(Reply::Unsupported);
        }
        let x = Tensor::from_slice(problem.input(), (input.n, input.c, input.h, input.w), &Device::Cpu)?;
        let filter = conv.filter(FilterOrder::Oihw);
        let filter = Tensor::from_vec(filter, (outputs, input.c / conv.groups(), kh, kw), &Device::Cpu)?;
        let mut y = x.conv2d(&filter, pads.top, stride, dilation, conv.groups())?;
        if let Some(bias) = conv.bias() {
            y = y.broadcast_add(&Tensor::from_slice(bias, (1, outputs, 1, 1), &Device::Cpu)?)?;
        }
        let y = y.flatten_all()?.to_vec1::<f32>()?;
        copy(y.iter().copied(), y.len(), output)?;
        Ok(Reply::Computed)
    }
}

/// ONNX Runtime, in a Python of the caller's, over pipes: `check_ort.py` says what goes through them.
pub struct Ort {
    server: Child,
    to: BufWriter<ChildStdin>,
    from: BufReader<ChildStdout>,
    version: String,
    last: Option<Case>,
}

impl Ort {
    pub fn start(python: &Path, script: &Path, optimization: &str) -> Result<Ort> {
        let mut server = Command::new(python)
            .args([script.as_os_str(), optimization.as_ref()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", python.display()))?;
        let (Some(to), Some(from)) = (server.stdin.take(), server.stdout.take()) else { bail!("no pipes") };
        let mut ort =
            Ort { server, to: BufWriter::new(to), from: BufReader::new(from), version: String::new(), last: None };
        ort.version = String::from_utf8(ort.receive().context("is onnxruntime installed in that Python?")?)?;
        Ok(ort)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.to.write_all(&(bytes.len() as u32).to_le_bytes())?;
        Ok(self.to.write_all(bytes)?)
    }

    fn receive(&mut self) -> Result<Vec<u8>> {
        let mut head = [0; 5];
        self.from.read_exact(&mut head)?;
        let len = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
        let mut bytes = vec![0; len as usize];
        self.from.read_exact(&mut bytes)?;
        if head[0] != 0 {
            bail!("{}", String::from_utf8_lossy(&bytes));
        }
        Ok(bytes)
    }
}

impl Engine for Ort {
    fn name(&self) -> String {
        format!("ONNX Runtime {}", self.version)
    }

    fn run(&mut self, problem: &Problem, output: &mut [f32]) -> Result<Reply> {
        // an empty model is the last one once more
        let again = self.last.as_ref() == Some(problem.case());
        let model = if again { vec![] } else { onnx::model(problem).encode_to_vec() };
        self.last = None;
        let shape = problem.input_shape();
        let sizes: Vec<u8> =
            [shape.n, shape.c, shape.h, shape.w].iter().flat_map(|&v| (v as u32).to_le_bytes()).collect();
        let values: Vec<u8> = problem.input().iter().flat_map(|v| v.to_le_bytes()).collect();
        for part in [&model, &sizes, &values] {
            self.send(part)?;
        }
        self.to.flush()?;
        let result = self.receive()?;
        self.last = Some(problem.case().clone());
        let mut values = result.chunks_exact(4).map(|v| f32::from_le_bytes([v[0], v[1], v[2], v[3]]));
        let mut parts = problem.split(output);
        let len = parts.iter().map(|part| part.len()).sum::<usize>();
        if len != result.len() / 4 {
            bail!("gave {} values, expected {len}", result.len() / 4);
        }
        parts.iter_mut().flat_map(|part| part.iter_mut()).zip(&mut values).for_each(|(to, v)| *to = v);
        Ok(Reply::Computed)
    }
}

impl Drop for Ort {
    fn drop(&mut self) {
        // it ends where its input does; a failure to wait leaves nothing to do
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn copy(values: impl Iterator<Item = f32>, len: usize, output: &mut [f32]) -> Result<()> {
    if len != output.len() {
        bail!("gave {len} values, expected {}", output.len());
    }
    output.iter_mut().zip(values).for_each(|(to, v)| *to = v);
    Ok(())
}
