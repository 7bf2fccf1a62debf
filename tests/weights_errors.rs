//! Weights that are not what a network asks for: every one an error that says what was expected and what came. Whatever
//! bytes a file holds, nothing panics, and nothing is allocated out of proportion to it.

use std::collections::BTreeMap;

use proptest::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use sepconv::Error;
use sepconv::models::{Architecture, Config, MobileNetV1, MobileNetV2, WeightOrder, Weights};
use sepconv_test_support::asked::{ByteCountingAllocator, asked};

#[global_allocator]
static ALLOCATOR: ByteCountingAllocator = ByteCountingAllocator;

/// Both networks, as narrow as they come.
fn architectures() -> [Architecture; 2] {
    let config = Config::new().alpha(0.01).classes(3);
    [MobileNetV1::architecture(&config).unwrap(), MobileNetV2::architecture(&config).unwrap()]
}

/// The types that a tensor of a layer may have, as errors name them.
const FLOATS: &str = "f32, f16 or bf16";

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn tensors(architecture: &Architecture) -> Tensors {
    let weights = Weights::seeded(architecture, 1).unwrap();
    let tensor = |(name, shape): (&str, &[usize])| {
        let values = weights.values(name).unwrap();
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        (name.to_owned(), (Dtype::F32, shape.to_vec(), bytes))
    };
    weights.tensors().map(tensor).collect()
}

fn file(tensors: &Tensors) -> Vec<u8> {
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, bytes))| (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

/// A file with this header, whatever it says.
fn raw_file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// What is wrong with a network of weights from this file.
fn error(architecture: &Architecture, file: &[u8]) -> String {
    let result = Weights::from_safetensors(file, WeightOrder::Hwio).and_then(|weights| architecture.network(&weights));
    match result {
        Err(error @ Error::Weights(_)) => error.to_string(),
        Err(error) => panic!("expected an error of weights, got {error:?}"),
        Ok(_) => panic!("expected an error, got a network"),
    }
}

#[test]
fn a_tensor_that_is_missing_is_named() {
    for architecture in architectures() {
        let all = tensors(&architecture);
        assert_eq!(all.len(), 2 * architecture.convolutions().count());
        for name in all.keys() {
            let mut some = all.clone();
            let (_, shape, _) = some.remove(name).unwrap();
            let shape = format!("{shape:?}").replace(' ', "");
            let expected = if let Some(layer) = name.strip_suffix(".bias") {
                format!(
                    "weights: {name}: expected {shape} {FLOATS}, or {layer}.mean and {layer}.variance, got no such tensors"
                )
            } else {
                format!("weights: {name}: expected {shape} {FLOATS}, got no such tensor")
            };
            assert_eq!(error(&architecture, &file(&some)), expected);
        }
    }
}

#[test]
fn a_tensor_of_a_wrong_shape_or_type_is_named_with_both() {
    for architecture in architectures() {
        let all = tensors(&architecture);
        for (name, (_, shape, bytes)) in &all {
            let text = |shape: &[usize]| format!("{shape:?}").replace(' ', "");
            let check = |(dtype, shape, bytes): (Dtype, Vec<usize>, Vec<u8>), got: &str| {
                let mut some = all.clone();
                some.insert(name.clone(), (dtype, shape, bytes));
                let expected = format!("weights: {name}: expected {} {FLOATS}, got {got}", text(&all[name].1));
                assert_eq!(error(&architecture, &file(&some)), expected);
            };
            let mut longer = shape.clone();
            *longer.last_mut().unwrap() += 1;
            let len = longer.iter().product::<usize>() * 4;
            check((Dtype::F32, longer.clone(), vec![0; len]), &format!("{} f32", text(&longer)));
            // as many values, in a shape that tells of another order
            let mut turned = shape.clone();
            turned.insert(0, 1);
            check((Dtype::F32, turned.clone(), bytes.clone()), &format!("{} f32", text(&turned)));
            check((Dtype::F32, vec![], vec![0; 4]), "[] f32");
            check((Dtype::F32, vec![0], vec![]), "[0] f32");
            let half = bytes[..bytes.len() / 2].to_vec();
            check((Dtype::F16, turned.clone(), half.clone()), &format!("{} f16", text(&turned)));
            check((Dtype::BF16, turned.clone(), half.clone()), &format!("{} bf16", text(&turned)));
            // every type that is no float of 32 or 16 bits
            let quarter = bytes[..bytes.len() / 4].to_vec();
            let double = [&bytes[..], bytes].concat();
            for (dtype, bytes) in [
                (Dtype::BOOL, &quarter),
                (Dtype::U8, &quarter),
                (Dtype::I8, &quarter),
                (Dtype::F8_E4M3, &quarter),
                (Dtype::F8_E5M2, &quarter),
                (Dtype::I16, &half),
                (Dtype::U16, &half),
                (Dtype::I32, bytes),
                (Dtype::U32, bytes),
                (Dtype::F64, &double),
                (Dtype::I64, &double),
                (Dtype::U64, &double),
            ] {
                check(
                    (dtype, shape.clone(), bytes.clone()),
                    &format!("{} {}", text(shape), dtype.to_string().to_lowercase()),
                );
            }
        }
    }
}

#[test]
fn a_filter_in_the_other_order_is_an_error_where_its_shape_tells() {
    let [v1, _] = architectures();
    let file = file(&tensors(&v1));
    let weights = Weights::from_safetensors(&file, WeightOrder::Oihw).unwrap();
    let Err(error) = v1.network(&weights) else { panic!("expected an error, got a network") };
    assert_eq!(error.to_string(), "weights: stem.weight: expected [8,3,3,3] f32, f16 or bf16, got [3,3,3,8] f32");
}

#[test]
fn half_a_batch_norm_is_an_error() {
    let [v1, _] = architectures();
    let vector = || (Dtype::F32, vec![8], vec![0; 32]);
    for (parts, missing) in [
        (&["mean"][..], "variance"),
        (&["variance"], "mean"),
        (&["gamma"], "mean"),
        (&["beta"], "mean"),
        (&["gamma", "beta", "mean"], "variance"),
    ] {
        // with a bias and without: what is left of a batch norm must not pass for none
        for biased in [true, false] {
            let mut some = tensors(&v1);
            some.extend(parts.iter().map(|part| (format!("block3.pointwise.{part}"), vector())));
            if !biased {
                some.remove("block3.pointwise.bias");
            }
            let expected = format!("weights: block3.pointwise.{missing}: expected [8] {FLOATS}, got no such tensor");
            assert_eq!(error(&v1, &file(&some)), expected);
        }
    }
    let mut some = tensors(&v1);
    some.extend(["mean", "variance"].map(|part| (format!("stem.{part}"), vector())));
    some.insert("stem.gamma".into(), (Dtype::F32, vec![4], vec![0; 16]));
    assert_eq!(error(&v1, &file(&some)), "weights: stem.gamma: expected [8] f32, f16 or bf16, got [4] f32");
}

#[test]
fn tensors_that_no_layer_asks_for_do_not_matter() {
    for architecture in architectures() {
        let mut some = tensors(&architecture);
        some.insert("stem.num_batches_tracked".into(), (Dtype::I64, vec![], vec![0; 8]));
        some.insert("optimizer".into(), (Dtype::F64, vec![3, 1], vec![0; 24]));
        let file = file(&some);
        let weights = Weights::from_safetensors(&file, WeightOrder::Hwio).unwrap();
        assert!(architecture.network(&weights).is_ok());
        let error = |name: &str| weights.values(name).unwrap_err().to_string();
        assert_eq!(error("optimizer"), "weights: optimizer: expected f32, f16 or bf16, got f64");
        assert_eq!(error("absent"), "weights: absent: expected f32, f16 or bf16, got no such tensor");
    }
}

#[test]
fn an_inserted_tensor_holds_what_its_shape_says() {
    let mut weights = Weights::new(WeightOrder::Hwio);
    let mut error = |shape: &[usize]| weights.insert("stem.bias", shape, &[1.0; 5][..]).unwrap_err().to_string();
    assert_eq!(error(&[2, 3]), "weights: stem.bias: [2,3] holds 6 values, got 5");
    assert_eq!(error(&[]), "weights: stem.bias: [] holds 1 values, got 5");
    assert_eq!(error(&[0, 5]), "weights: stem.bias: [0,5] holds 0 values, got 5");
    assert_eq!(
        error(&[usize::MAX, 2]),
        format!("weights: stem.bias: [{},2] holds more than memory values, got 5", usize::MAX)
    );
    assert_eq!(weights.tensors().count(), 0);
    weights.insert("stem.bias", &[5], &[1.0; 5][..]).unwrap();
    weights.insert("stem.bias", &[2], vec![2.0, 3.0]).unwrap();
    assert_eq!(*weights.values("stem.bias").unwrap(), [2.0, 3.0]);
    assert_eq!(weights.tensors().collect::<Vec<_>>(), [("stem.bias", &[2][..])]);
}

#[test]
fn bytes_that_are_no_file_are_an_error_that_says_so() {
    let [v1, _] = architectures();
    let whole = file(&tensors(&v1));
    let header_end = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for len in [0, 1, 7, 8, 9, header_end - 1, header_end, header_end + 1, whole.len() - 1] {
        let error = error(&v1, &whole[..len]);
        assert!(error.starts_with("weights: not a safetensors file: "), "{len} bytes: {error}");
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert!(error(&v1, &longer).contains("bytes of tensors, got"), "{}", error(&v1, &longer));
    assert_eq!(error(&v1, b"abc"), "weights: not a safetensors file: expected a header length of 8 bytes, got 3 bytes");
    assert_eq!(
        error(&v1, &[0xff; 20]),
        format!(
            "weights: not a safetensors file: expected a header of {} bytes, got 12 bytes after its length",
            u64::MAX
        )
    );
    for (header, data) in [
        ("", &[][..]),
        ("{", &[]),
        ("[]", &[]),
        ("\u{feff}{}", &[]),
        (r#"{"a":{"dtype":"F32","shape":[1]}}"#, &[0; 4]),
        (r#"{"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}}"#, &[0; 4]),
        (r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, &[0; 4]),
        (r#"{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}"#, &[0; 4]),
        // shape and place disagree, a gap, an overlap, a place that ends before it begins
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, &[0; 4]),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, &[0; 8]),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}"#,
            &[0; 6],
        ),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, &[0; 4]),
        // products and sums beyond an address
        (r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#, &[]),
        (r#"{"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}}"#, &[]),
        (r#"{"a":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,0]}}"#, &[]),
    ] {
        let error = error(&v1, &raw_file(header, data));
        assert!(error.starts_with("weights: not a safetensors file: "), "{header}: {error}");
    }
}

/// Each tensor fits, and so do their places; their end plus that of the header does not. The crate's own reader adds
/// the two up unchecked.
#[test]
fn places_that_end_at_the_last_address_are_an_error() {
    let [v1, _] = architectures();
    let mut header = Vec::new();
    let mut start: u64 = 0;
    for i in 0..16 {
        let end = if i == 15 { u64::MAX } else { start + (1 << 60) };
        let len = end - start;
        header.push(format!(r#""t{i:02}":{{"dtype":"U8","shape":[{len}],"data_offsets":[{start},{end}]}}"#));
        start = end;
    }
    let error = error(&v1, &raw_file(&format!("{{{}}}", header.join(",")), &[0; 100]));
    assert_eq!(error, format!("weights: not a safetensors file: expected {} bytes of tensors, got 100", u64::MAX));
}

#[test]
fn a_header_that_promises_much_gets_no_more_memory_than_it_has_bytes() {
    let [v1, _] = architectures();
    let promises = [
        r#"{"stem.weight":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}"#.to_owned(),
        format!(r#"{{"a":{{"dtype":"F32","shape":[{}],"data_offsets":[0,4]}}}}"#, vec!["1"; 10_000].join(",")),
        format!(r#"{{"__metadata__":{{"a":"{}"}}}}"#, "x".repeat(100_000)),
        "[".repeat(100_000),
        r#"{"a":"#.repeat(20_000),
        (0..2000).map(|i| format!(r#"{{"t{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}}}"#)).collect(),
    ];
    for header in promises {
        let file = raw_file(&header, &[0; 4]);
        let (result, bytes) = asked(|| {
            Weights::from_safetensors(&file, WeightOrder::Hwio).and_then(|weights| v1.network(&weights)).map(|_| ())
        });
        assert!(result.is_err());
        assert!(bytes <= 200 * file.len() + 10_000, "{bytes} bytes for a file of {}", file.len());
    }
}

/// Bytes in proportion to a file, and no panic; what comes out does not matter.
fn assert_harmless(file: &[u8]) -> Result<(), TestCaseError> {
    for order in [WeightOrder::Hwio, WeightOrder::Oihw] {
        let (weights, bytes) = asked(|| Weights::from_safetensors(file, order));
        prop_assert!(bytes <= 200 * file.len() + 10_000, "{bytes} bytes for a file of {}", file.len());
        let Ok(weights) = weights else { continue };
        for (name, shape) in weights.tensors() {
            if let Ok(values) = weights.values(name) {
                prop_assert_eq!(values.len(), shape.iter().product::<usize>());
            }
        }
        for architecture in architectures() {
            let _ = architecture.network(&weights);
        }
    }
    Ok(())
}

/// The header of a small file, and where its data begin.
fn v1_file() -> (Vec<u8>, usize) {
    let [v1, _] = architectures();
    let file = file(&tensors(&v1));
    let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    (file, 8 + header)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_harmless(file in proptest::collection::vec(any::<u8>(), 0..300)) {
        assert_harmless(&file)?;
    }

    #[test]
    fn any_header_is_harmless(
        header in r#"(\{|\}|\[|\]|,|:|"a"|"b"|"dtype"|"shape"|"data_offsets"|"F32"|"BF16"|"F4"|0|1|4|8|18446744073709551615| ){0,40}"#,
        data in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        assert_harmless(&raw_file(&header, &data))?;
    }

    #[test]
    fn any_tensors_are_harmless(
        tensors in proptest::collection::vec((
            proptest::sample::select(vec!["F32", "F64", "U8", "F16", "BF16", "BOOL", "F4", "F6_E2M3"]),
            proptest::collection::vec(prop_oneof![0_u64..4, Just(1 << 32), any::<u64>()], 0..4),
            prop_oneof![0_u64..20, Just(1 << 60), any::<u64>()],
        ), 0..20),
        data in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut start = 0_u64;
        let entries: Vec<String> = tensors.iter().enumerate().map(|(i, (dtype, shape, len))| {
            let end = start.saturating_add(*len);
            let entry = format!(r#""t{i}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{end}]}}"#);
            start = end;
            entry
        }).collect();
        assert_harmless(&raw_file(&format!("{{{}}}", entries.join(",")), &data))?;
    }

    #[test]
    fn a_file_with_some_bytes_changed_is_harmless(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::weighted(0.1, any::<proptest::sample::Index>()),
    ) {
        let (mut file, header) = v1_file();
        for (at, byte) in changes {
            let at = at.index(header);
            file[at] = byte;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        assert_harmless(&file)?;
    }

    #[test]
    fn any_values_make_a_network(
        values in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u32>()), 1..50),
    ) {
        let (mut file, header) = v1_file();
        for (at, bits) in values {
            let at = header + at.index((file.len() - header) / 4) * 4;
            file[at..at + 4].copy_from_slice(&bits.to_le_bytes());
        }
        let [v1, _] = architectures();
        let weights = Weights::from_safetensors(&file, WeightOrder::Hwio).unwrap();
        prop_assert!(v1.network(&weights).is_ok());
    }
}
