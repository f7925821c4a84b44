//! The assist's source, put together: the core, one file for each library, and what installs them.
//!
//! The order of the bindings gives each its bit in the shared area; `bindings.push` in the files follows it.

/// The pieces in their order.
const PIECES: [&str; 10] = [
    include_str!("assist/core.js"),
    include_str!("assist/bindings/undici.js"),
    include_str!("assist/bindings/pg.js"),
    include_str!("assist/bindings/ioredis.js"),
    include_str!("assist/bindings/redis.js"),
    include_str!("assist/bindings/postgres.js"),
    include_str!("assist/bindings/amqplib.js"),
    include_str!("assist/bindings/kafkajs.js"),
    include_str!("assist/bindings/bull.js"),
    include_str!("assist/end.js"),
];

/// How the bindings are called, by bit.
const BINDINGS: [&str; 15] = [
    "undici", "undici", "pg", "pg-pool", "ioredis", "redis", "redis", "postgres", "amqplib",
    "amqplib", "kafkajs", "kafkajs", "kafkajs", "bullmq", "bull",
];

/// What stack traces and profiles of the application call the assist's functions by.
const NAME: &str = "wirespan-assist.js";

/// Undoes what any version of the script did.
pub(super) const UNDO: &str = "process[Symbol.for('wirespan.assist')]?.undo()";

/// An expression that installs the assist, or has an earlier one announce itself. `nonce` goes into the area.
pub(super) fn install(nonce: [u32; 2]) -> String {
    // Where the console's own `require` is missing there is the runtime's.
    const REQUIRE: &str = "typeof require === 'function' ? require : process.getBuiltinModule";
    let [first, second] = nonce.map(u32::cast_signed);
    let body = PIECES.concat();
    format!(
        "(function (NONCE, require) {{\n{body}}})([{first}, {second}], {REQUIRE});\n//# sourceURL={NAME}"
    )
}

/// What a file for `--require` holds.
pub(super) fn file() -> String {
    format!("// wirespan assist {}\n{}\n", env!("CARGO_PKG_VERSION"), install([0, 0]))
}

/// The libraries whose bindings are active, each once: those of Node itself always are.
pub(super) fn names(active: u32) -> Vec<&'static str> {
    let mut names = vec!["http"];
    for (bit, name) in BINDINGS.into_iter().enumerate() {
        if active & (1 << bit) != 0 && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_binding_has_its_bit() {
        let names = PIECES.concat();
        let names: Vec<&str> = names
            .split("bindings.push({")
            .skip(1)
            .filter_map(|binding| binding.split("name: '").nth(1)?.split('\'').next())
            .collect();
        assert_eq!(names.len(), BINDINGS.len(), "{names:?}");
        for (name, known) in names.iter().zip(BINDINGS) {
            assert!(name.starts_with(known), "{name} is {known} here");
        }
    }
}
