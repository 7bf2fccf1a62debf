//! A depthwise 3×3 convolution from planes to planes, run.

use sepconv_kernels::{DwPlanesArgs, KernelKind};

use super::bind::Memory;
use crate::plan::{PlanesStep, share};

impl PlanesStep {
    /// # Safety
    /// As [`super::Step::run`].
    pub(super) unsafe fn run(&self, memory: &Memory<'_>, piece: usize, scratch: *mut u8) {
        let (x, out) = (memory.bind(self.ends.input), memory.bind(self.ends.output));
        let depthwise = &*self.stage.op;
        let run = match self.kind {
            KernelKind::DwPlanes3x3S1 => memory.kernels.dwplanes3x3s1,
            KernelKind::DwPlanes3x3S2 => memory.kernels.dwplanes3x3s2,
            // unreached: the plan has no other kind
            other => unreachable!("{} is not of planes", other.name()),
        };
        let (channels, height) = (out.shape.c, out.shape.h);
        let planes = out.shape.n * channels;
        let lines = if self.whole {
            let planes = share(planes, self.parts, piece);
            planes.start * height..planes.end * height
        } else {
            share(planes * height, self.parts, piece)
        };
        let (mut line, mut before) = (lines.start, 0);
        while line < lines.end {
            let (plane, y) = (line / height, line % height);
            let (image, first) = (plane / channels, plane % channels);
            let left = lines.end - line;
            // some whole planes of an image, or some rows of one
            let count = if y == 0 { (left / height).clamp(1, channels - first) } else { 1 };
            let rows = (height - y).min(left);
            line += count * rows;
            if rows != before {
                // SAFETY: the caller's; the plan carved as many bytes. A call of other rows than the one before finds zeros.
                unsafe { scratch.add(self.scratch).write_bytes(0, self.scratch_bytes) };
                before = rows;
            }
            // SAFETY: the caller's; rows are shared out, so no two pieces write the same value. A window of the plan begins inside of
            // the padded plane.
            unsafe {
                run(&DwPlanesArgs {
                    x: x.ptr.add(x.row(image, 0)),
                    x_plane: x.layout.channel,
                    x_steps: [x.layout.row, x.layout.within.pixel],
                    plane: [x.shape.h, x.shape.w],
                    before: self.extent.before,
                    rows: [y, rows],
                    width: out.shape.w,
                    channels: first..first + count,
                    multiplier: depthwise.multiplier,
                    w: depthwise.weights.as_ptr::<f32>(),
                    scratch: scratch.add(self.scratch).cast(),
                    out: out.ptr.add(out.row(image, y)),
                    out_plane: out.layout.channel,
                    out_steps: [out.layout.row, out.layout.within.pixel],
                    epilogue: self.stage.end.epilogue,
                    params: self.stage.end.params(0),
                });
            }
        }
    }
}
