//! Compiles `proto/` without `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../../proto";
    println!("cargo:rerun-if-changed={root}");
    let files =
        ["watchfire/v1/cluster.proto", "watchfire/v1/ingest.proto", "watchfire/v1/read.proto"];
    let descriptors = protox::compile(files, [root])?;
    tonic_prost_build::configure()
        .bytes(".watchfire.v1")
        .codec_path("crate::rpc_codec::SmallBuffers")
        .compile_fds(descriptors)?;
    Ok(())
}
