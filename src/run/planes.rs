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
        // SAFETY: the caller's; the plan carved as many bytes.
        unsafe { scratch.add(self.scratch).write_bytes(0, self.scratch_bytes) };
        let planes = share(out.shape.n * out.shape.c, self.parts, piece);
        let (channels, mut plane) = (out.shape.c, planes.start);
        while plane < planes.end {
            let (image, first) = (plane / channels, plane % channels);
            let count = (channels - first).min(planes.end - plane);
            plane += count;
            // SAFETY: the caller's; planes are shared out, so no two pieces write the same value. A window of the plan begins inside of
            // the padded plane.
            unsafe {
                run(&DwPlanesArgs {
                    x: x.ptr.add(x.row(image, 0)),
                    x_plane: x.layout.channel,
                    x_steps: [x.layout.row, x.layout.within.pixel],
                    plane: [x.shape.h, x.shape.w],
                    before: self.extent.before,
                    rows: [0, out.shape.h],
                    width: out.shape.w,
                    channels: first..first + count,
                    multiplier: depthwise.multiplier,
                    w: depthwise.weights.as_ptr::<f32>(),
                    scratch: scratch.add(self.scratch).cast(),
                    out: out.ptr.add(out.row(image, 0)),
                    out_plane: out.layout.channel,
                    out_steps: [out.layout.row, out.layout.within.pixel],
                    epilogue: self.stage.epilogue,
                });
            }
        }
    }
}
