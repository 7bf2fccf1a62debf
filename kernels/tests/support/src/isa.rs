//! Which instruction sets a test runs on, and the demand that one of them did. Shared by the tests of both crates, so
//! that there is one way to say it: `SEPCONV_MAX_ISA` caps them, as it caps the plans of the library, and
//! `SEPCONV_REQUIRE_ISA` names those without which a run of tests fails.

use sepconv_kernels::Isa;

/// The instruction sets that this CPU has, best first, and none above `SEPCONV_MAX_ISA`.
pub fn isas() -> Vec<Isa> {
    let cap = match std::env::var("SEPCONV_MAX_ISA") {
        Ok(name) if !name.is_empty() => name.parse().unwrap_or_else(|e| panic!("SEPCONV_MAX_ISA={name}: {e}")),
        _ => Isa::ALL[0],
    };
    Isa::ALL.into_iter().filter(|isa| isa.is_at_most(cap) && isa.is_available()).collect()
}

/// Fails where `SEPCONV_REQUIRE_ISA` names an instruction set that is none of `ran`. Several names are parted by
/// commas.
///
/// Every test that goes over instruction sets ends here, so that none passes because its instruction set was not there.
pub fn assert_required_isa_ran(ran: &[Isa]) {
    assert!(!ran.is_empty(), "no instruction set was exercised");
    let Ok(required) = std::env::var("SEPCONV_REQUIRE_ISA") else { return };
    for name in required.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let isa: Isa = name.parse().unwrap_or_else(|e| panic!("SEPCONV_REQUIRE_ISA={required}: {e}"));
        assert!(ran.contains(&isa), "SEPCONV_REQUIRE_ISA={required}: {isa} did not run, only {ran:?}");
    }
}
