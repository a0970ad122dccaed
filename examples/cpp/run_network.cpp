// Runs an export (network.onnx and sidecar.json) through ONNX Runtime on inputs from .npy files: see README.md.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <iterator>

#include "memory.h"

struct Options {
    fs::path export_dir, inputs_dir, outputs_dir;
    int threads = 0;  // 0 leaves the choice to ONNX Runtime
    int runs = 0;     // timed ones; 0: run once and print no times
    bool drive = false;  // INPUTS_DIR holds one folder a frame
};

struct Sidecar {
    std::vector<TensorSpec> inputs, outputs;
    json content;
};

Options parse_arguments(const std::vector<std::string>& arguments) {
    Options options;
    std::vector<std::string> folders;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        if (arguments[i] == "--drive") {
            options.drive = true;
            continue;
        }
        if (arguments[i] != "--threads" && arguments[i] != "--runs") {
            folders.push_back(arguments[i]);
            continue;
        }
        int& value = arguments[i] == "--threads" ? options.threads : options.runs;
        const std::string number = i + 1 < arguments.size() ? arguments[++i] : "";
        const bool digits = std::regex_match(number, std::regex("[1-9][0-9]{0,5}"));
        if (!digits) throw std::runtime_error("--threads and --runs: expected 1 to 999999, found '" + number + "'");
        value = std::stoi(number);
    }
    if (folders.size() != 3) {
        throw std::runtime_error("usage: run_network EXPORT_DIR INPUTS_DIR OUTPUTS_DIR [--threads N] [--runs N | --drive]");
    }
    if (options.drive && options.runs > 0) throw std::runtime_error("--runs: expected without --drive, found both");
    options.export_dir = folders[0], options.inputs_dir = folders[1], options.outputs_dir = folders[2];
    return options;
}

std::vector<TensorSpec> parse_specs(const fs::path& path, const json& entries) {
    std::vector<TensorSpec> specs;
    for (const json& entry : entries) {
        const auto name = field<std::string>(path, entry, "name", "a text");
        const auto dtype = field<std::string>(path, entry, "dtype", "a text");
        const auto known = std::find_if(std::begin(DTYPES), std::end(DTYPES), [&](const Dtype& d) { return d.name == dtype; });
        if (known == std::end(DTYPES)) fail(path, name + " dtype", "float32, int64, int32, bool or uint8", dtype);
        specs.push_back({name, field<Shape>(path, entry, "shape", "a list of integers"), known, std::nullopt});
        const bool indices = entry.contains("high") && !entry["high"].is_null();
        if (indices) specs.back().high = field<std::int64_t>(path, entry, "high", "an integer");
    }
    return specs;
}

// The sidecar's `dropped_inputs` are not among its `inputs`, so nothing here asks for them.
Sidecar read_sidecar(const fs::path& path) {
    const json content = read_json(path, "the sidecar that tools/export.py writes");
    const auto schema = field<std::string>(path, content, "schema", "perception-engine");
    if (schema != "perception-engine") fail(path, "schema", "perception-engine", schema);
    const int version = field<int>(path, content, "version", "1");
    if (version != 1) fail(path, "version", "1", std::to_string(version));
    return {parse_specs(path, field<json::array_t>(path, content, "inputs", "a list")),
            parse_specs(path, field<json::array_t>(path, content, "outputs", "a list")), content};
}

Ort::Session open_network(Ort::Env& env, const fs::path& path, int threads) {
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(threads);
    try {
        return Ort::Session(env, path.c_str(), options);
    } catch (const Ort::Exception& error) {
        fail(path, "content", "a network ONNX Runtime can read", error.what());
    }
}

template <class Info>  // of ONNX Runtime: owned or not, by version
void check_tensor(const fs::path& path, const TensorSpec& spec, const Info& info) {
    const auto type = info.GetElementType();
    const auto found = std::find_if(std::begin(DTYPES), std::end(DTYPES), [&](const Dtype& d) { return d.onnx == type; });
    const std::string name = found == std::end(DTYPES) ? "ONNX element type " + std::to_string(type) : found->name;
    if (found != spec.dtype) fail(path, spec.name + " dtype", spec.dtype->name, name);
    if (info.GetShape() != spec.shape) fail(path, spec.name + " shape", text(spec.shape), text(info.GetShape()));
}

// `name_of` and `type_of` ask the network by number; its order may differ from the sidecar's.
template <class NameOf, class TypeOf>
void check_tensors(const fs::path& path, const std::string& kind, const std::vector<TensorSpec>& specs, std::size_t count,
                   NameOf name_of, TypeOf type_of) {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < count; ++i) names.emplace_back(name_of(i).get());
    if (names.size() != specs.size()) fail(path, kind, std::to_string(specs.size()) + " of them", json(names).dump());
    for (const TensorSpec& spec : specs) {
        const auto found = std::find(names.begin(), names.end(), spec.name);
        if (found == names.end()) fail(path, kind, spec.name + " among them", json(names).dump());
        const Ort::TypeInfo type = type_of(static_cast<std::size_t>(found - names.begin()));
        if (type.GetONNXType() != ONNX_TYPE_TENSOR) fail(path, spec.name, "a tensor", "another ONNX type");
        check_tensor(path, spec, type.GetTensorTypeAndShapeInfo());
    }
}

void check_network(const fs::path& path, const Ort::Session& session, const Sidecar& sidecar) {
    Ort::AllocatorWithDefaultOptions allocator;
    check_tensors(path, "inputs", sidecar.inputs, session.GetInputCount(),
                  [&](std::size_t i) { return session.GetInputNameAllocated(i, allocator); },
                  [&](std::size_t i) { return session.GetInputTypeInfo(i); });
    check_tensors(path, "outputs", sidecar.outputs, session.GetOutputCount(),
                  [&](std::size_t i) { return session.GetOutputNameAllocated(i, allocator); },
                  [&](std::size_t i) { return session.GetOutputTypeInfo(i); });
}

template <class Infer>
void print_latency(int runs, Infer infer) {
    std::vector<double> times_ms;
    for (int i = 0; i < runs; ++i) {
        const auto start = std::chrono::steady_clock::now();
        infer();
        times_ms.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
    }
    std::sort(times_ms.begin(), times_ms.end());
    const auto percentile = [&](double share) {  // between neighbours linearly, as numpy.percentile does
        const double rank = share * (runs - 1), below = std::floor(rank);
        const double low = times_ms[static_cast<std::size_t>(below)], high = times_ms[static_cast<std::size_t>(std::ceil(rank))];
        return low + (rank - below) * (high - low);
    };
    std::printf("%d runs: p50 %.2f ms, p90 %.2f ms\n", runs, percentile(0.5), percentile(0.9));
}

// A session with the inputs of one frame: read from a folder, but for those that a memory fills.
class Network {
   public:
    Network(Ort::Session& session, const Sidecar& sidecar) : session_(session), sidecar_(sidecar) {
        for (const TensorSpec& spec : sidecar.inputs) input_names_.push_back(spec.name.c_str());
        for (const TensorSpec& spec : sidecar.outputs) output_names_.push_back(spec.name.c_str());
    }

    void read_inputs(const fs::path& folder, Memory* memory = nullptr) {
        buffers_.clear(), inputs_.clear();
        for (const TensorSpec& spec : sidecar_.inputs) {
            const bool remembered = memory != nullptr && memory->has(spec.name);
            if (!remembered) buffers_.push_back(read_npy(folder / (spec.name + ".npy"), spec));
            char* data = remembered ? memory->input(spec.name) : buffers_.back().data();
            inputs_.push_back(Ort::Value::CreateTensor(cpu_, data, spec.bytes(), spec.shape.data(), spec.shape.size(),
                                                       spec.dtype->onnx));
        }
    }

    std::vector<Ort::Value> infer() {
        return session_.Run(Ort::RunOptions{nullptr}, input_names_.data(), inputs_.data(), inputs_.size(), output_names_.data(),
                            output_names_.size());
    }

    void write_outputs(const fs::path& folder, const std::vector<Ort::Value>& outputs) const {
        fs::create_directories(folder);
        for (std::size_t i = 0; i < outputs.size(); ++i) {
            const TensorSpec& spec = sidecar_.outputs[i];
            check_tensor(folder, spec, outputs[i].GetTensorTypeAndShapeInfo());
            write_npy(folder / (spec.name + ".npy"), spec, outputs[i].GetTensorData<char>());
        }
    }

   private:
    Ort::Session& session_;
    const Sidecar& sidecar_;
    Ort::MemoryInfo cpu_ = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    std::vector<Bytes> buffers_;  // what `inputs_` point into; a vector that is moved keeps its memory
    std::vector<Ort::Value> inputs_;
    std::vector<const char*> input_names_, output_names_;
};

void run_once(const Options& options, const Sidecar& sidecar, Ort::Session& session) {
    Network network(session, sidecar);
    network.read_inputs(options.inputs_dir);
    const std::vector<Ort::Value> outputs = network.infer();  // allocates memory, so this run is not among the timed ones
    if (options.runs > 0) print_latency(options.runs, [&] { return network.infer(); });
    network.write_outputs(options.outputs_dir, outputs);
}

// The frames of a drive, one folder each, in the order of their names; the memory goes from frame to frame.
void run_drive(const Options& options, const Sidecar& sidecar, Ort::Session& session) {
    std::vector<fs::path> frames;
    for (const auto& entry : fs::directory_iterator(options.inputs_dir)) {
        if (entry.is_directory()) frames.push_back(entry.path());
    }
    if (frames.empty()) fail(options.inputs_dir, "content", "one folder a frame", "no folder");
    std::sort(frames.begin(), frames.end());

    const auto new_map = std::find_if(sidecar.outputs.begin(), sidecar.outputs.end(),
                                      [](const TensorSpec& spec) { return spec.name == "memory.map"; });
    if (new_map == sidecar.outputs.end()) {
        fail(options.export_dir / "sidecar.json", "outputs", "memory.map (--drive is for networks with a memory)", "none");
    }
    const auto index = static_cast<std::size_t>(new_map - sidecar.outputs.begin());

    Network network(session, sidecar);
    Memory memory(options.export_dir / "sidecar.json", sidecar.content, sidecar.inputs);
    for (const fs::path& folder : frames) {
        const CarFrame frame = CarFrame::read(folder / "frame.json");
        const bool recalled = memory.recall(frame);
        network.read_inputs(folder, &memory);
        const std::vector<Ort::Value> outputs = network.infer();
        memory.keep(frame, outputs[index].GetTensorData<float>());
        network.write_outputs(options.outputs_dir / folder.filename(), outputs);
        std::printf("%s: %s\n", folder.filename().c_str(), recalled ? "with its past" : "without a past");
    }
    for (const auto& [reason, times] : memory.resets) std::printf("started over, %s: %d\n", reason.c_str(), times);
}

void run(const Options& options) {
    // A library older than its headers gives no interface, and every later call would crash.
    if (!OrtGetApiBase()->GetApi(ORT_API_VERSION)) throw std::runtime_error("ONNX Runtime's library is older than its headers");
    const Sidecar sidecar = read_sidecar(options.export_dir / "sidecar.json");
    const fs::path network = options.export_dir / "network.onnx";
    Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "run_network");
    Ort::Session session = open_network(env, network, options.threads);
    check_network(network, session, sidecar);
    options.drive ? run_drive(options, sidecar, session) : run_once(options, sidecar, session);
}

int main(int argc, char** argv) {
    try {
        run(parse_arguments({argv + 1, argv + argc}));
        return 0;
    } catch (const std::exception& error) {
        std::cerr << "run_network: " << error.what() << std::endl;
        return 1;
    }
}
