//! What environment variables do, seen by child processes of this test. User-mode emulation runs no child under its own
//! emulator, so these tests have a file of their own, which runs on the host alone.

use sepconv::{Error, GlobalAveragePool, Isa, PlanOptions, Shape};
use sepconv_test_support::assert_required_levels;

/// What a child of [`a_cap_from_the_environment`] is to find: `error`, or the name of an instruction set.
const EXPECT: &str = "SEPCONV_TEST_EXPECT";

/// Runs one test of this file in a process of its own, and says whether it passed, and what it printed.
fn child(test: &str, environment: &[(&str, &str)]) -> (bool, String) {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test]).env_remove("SEPCONV_MAX_ISA").env_remove("SEPCONV_REQUIRE_ISA");
    let output = command.envs(environment.iter().copied()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success() && said.contains("1 passed"), said)
}

#[test]
fn a_cap_from_the_environment() {
    let average = GlobalAveragePool::new(1).unwrap();
    let plan = |options: &PlanOptions| average.plan(Shape::new(1, 1, 1, 1), options);
    if let Ok(expected) = std::env::var(EXPECT) {
        if expected == "error" {
            let error = plan(&PlanOptions::new()).unwrap_err();
            assert!(matches!(error, Error::Isa(_)), "{error:?}");
            let message = "instruction set: SEPCONV_MAX_ISA=avx1024: expected avx512, avx2, sse42, neon or scalar";
            assert_eq!(error.to_string(), message);
        } else {
            assert_eq!(plan(&PlanOptions::new()).unwrap().isa().name(), expected);
            // an option does not lift what the environment caps
            for isa in Isa::ALL {
                let plan = plan(&PlanOptions::new().max_isa(isa)).unwrap();
                assert!(plan.isa().is_at_most(expected.parse().unwrap()), "{isa}: {}", plan.isa());
            }
        }
        return;
    }
    let caps = Isa::ALL.map(|isa| (isa.name(), Isa::best_up_to(isa).name()));
    let others = [("avx1024", "error"), ("SSE42", Isa::best_up_to(Isa::Sse42).name()), ("", Isa::best().name())];
    for (cap, expected) in caps.into_iter().chain(others) {
        let (passed, said) = child("a_cap_from_the_environment", &[("SEPCONV_MAX_ISA", cap), (EXPECT, expected)]);
        assert!(passed, "SEPCONV_MAX_ISA={cap}: {said}");
    }
}

/// Set in the children of [`an_instruction_set_that_is_required_and_does_not_run_fails`].
const REQUIRING: &str = "SEPCONV_TEST_REQUIRING";

#[test]
fn an_instruction_set_that_is_required_and_does_not_run_fails() {
    if std::env::var_os(REQUIRING).is_some() {
        assert_required_levels();
        return;
    }
    let requiring = |isas: &str, cap: &str| {
        let environment = [(REQUIRING, "1"), ("SEPCONV_REQUIRE_ISA", isas), ("SEPCONV_MAX_ISA", cap)];
        child("an_instruction_set_that_is_required_and_does_not_run_fails", &environment)
    };
    let best = Isa::best().name();
    for isa in Isa::ALL {
        let (passed, said) = requiring(isa.name(), best);
        assert_eq!(passed, isa.is_available(), "{isa}: {said}");
    }
    assert!(requiring(&format!("{best}, scalar"), best).0);
    assert!(!requiring("scalar,avx1024", best).0, "no instruction set has that name");
    if best != "scalar" {
        assert!(!requiring(best, "scalar").0, "{best} is above the cap");
    }
}
