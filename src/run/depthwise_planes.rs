//! A depthwise 3×3 convolution from planes to planes, run.

use sepconv_kernels::{BLOCK, DwPlanesArgs, KernelKind};

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
            _ => memory.kernels.dwplanes3x3s2,
        };
        // SAFETY: the caller's; the plan carved as many bytes.
        unsafe { scratch.add(self.scratch).write_bytes(0, self.scratch_bytes) };
        let weights = depthwise.weights.as_ptr::<f32>();
        for plane in share(out.shape.n * out.shape.c, self.parts, piece) {
            let (image, channel) = (plane / out.shape.c, plane % out.shape.c);
            // SAFETY: the caller's; planes are shared out, so no two pieces write the same value. A window of the plan begins inside of
            // the padded plane.
            unsafe {
                run(&DwPlanesArgs {
                    x: x.ptr.add(x.row(image, 0) + channel / depthwise.multiplier * x.layout.channel),
                    x_steps: [x.layout.row, x.layout.within.pixel],
                    plane: [x.shape.h, x.shape.w],
                    before: self.extent.before,
                    rows: [0, out.shape.h],
                    width: out.shape.w,
                    w: weights.add(channel / BLOCK * 10 * BLOCK + channel % BLOCK),
                    scratch: scratch.add(self.scratch).cast(),
                    out: out.ptr.add(out.row(image, 0) + channel * out.layout.channel),
                    out_steps: [out.layout.row, out.layout.within.pixel],
                    epilogue: self.stage.epilogue,
                });
            }
        }
    }
}
