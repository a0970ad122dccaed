// Tensors of a sidecar as .npy files: checked when read, written whole or not at all.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <regex>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "values are copied between file and memory as they are, which needs a little-endian machine"
#endif

namespace fs = std::filesystem;
using Shape = std::vector<std::int64_t>;
using Bytes = std::vector<char>;  // from operator new, so aligned for every type below

struct Dtype {
    const char *name, *npy;  // in the sidecar (numpy's name), in the header of a .npy file
    ONNXTensorElementDataType onnx;
    std::size_t bytes;
};

inline constexpr Dtype DTYPES[] = {{"float32", "<f4", ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, 4},
                                   {"int64", "<i8", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, 8},
                                   {"int32", "<i4", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, 4},
                                   {"bool", "|b1", ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL, 1},
                                   {"uint8", "|u1", ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, 1}};

// One input or output of the sidecar; `high` is the largest value that an index may have (the least is 0).
struct TensorSpec {
    std::string name;
    Shape shape;
    const Dtype* dtype;
    std::optional<std::int64_t> high;

    std::size_t bytes() const {
        std::size_t product = dtype->bytes;
        for (const std::int64_t size : shape) product *= static_cast<std::size_t>(size);
        return product;
    }
};

[[noreturn]] inline void fail(const fs::path& file, const std::string& field, const std::string& expected,
                              const std::string& found) {
    throw std::runtime_error(file.string() + ": " + field + ": expected " + expected + ", found " + found);
}

// As Python writes a tuple, which is also what the header of a .npy file holds.
inline std::string text(const Shape& shape) {
    std::string joined;
    for (const std::int64_t size : shape) joined += (joined.empty() ? "" : ", ") + std::to_string(size);
    return "(" + joined + (shape.size() == 1 ? ",)" : ")");
}

// A .npy file begins with a magic string, a version of two bytes, the length of the header (two bytes in version 1, four
// in later ones), and the header: a Python dict in text.
inline std::string read_header(const fs::path& path, std::ifstream& file) {
    unsigned char start[12] = {};
    file.read(reinterpret_cast<char*>(start), 8);
    const bool is_npy = file && std::string(start, start + 6) == "\x93NUMPY" && start[6] >= 1 && start[6] <= 3;
    if (!is_npy) fail(path, "magic and version", "a .npy file of version 1 to 3", "something else");
    file.read(reinterpret_cast<char*>(start) + 8, start[6] == 1 ? 2 : 4);
    const std::uint64_t size = start[8] | start[9] << 8 | start[10] << 16 | std::uint64_t{start[11]} << 24;
    std::string header(std::min<std::uint64_t>(size, fs::file_size(path)), ' ');
    file.read(header.data(), static_cast<std::streamsize>(header.size()));
    if (!file) fail(path, "header", std::to_string(size) + " bytes", "the end of the file");
    header.erase(header.find_last_not_of(" \n") + 1);  // the padding
    return header;
}

inline Shape parse_shape(const std::string& numbers) {
    Shape shape;
    const std::regex number("[0-9]{1,18}");  // which fit into 64 bits
    for (std::sregex_iterator it(numbers.begin(), numbers.end(), number), end; it != end; ++it) {
        shape.push_back(std::stoll(it->str()));
    }
    return shape;
}

inline std::string header_field(const fs::path& path, const std::string& header, const std::string& key,
                                const std::string& pattern) {
    std::smatch match;
    if (!std::regex_search(header, match, std::regex("'" + key + "': *" + pattern))) fail(path, key, pattern, header);
    return match[1];
}

// NaN is in no range.
template <class T>
void check_range(const fs::path& path, const Bytes& bytes, double least, double most, const std::string& expected) {
    const auto* values = reinterpret_cast<const T*>(bytes.data());
    const auto* end = values + bytes.size() / sizeof(T);
    const auto in_range = [&](T value) { return static_cast<double>(value) >= least && static_cast<double>(value) <= most; };
    const auto* bad = std::find_if_not(values, end, in_range);
    if (bad != end) fail(path, "value " + std::to_string(bad - values), expected, std::to_string(*bad));
}

// An index outside 0..high would make the network read foreign memory.
inline void check_values(const fs::path& path, const TensorSpec& spec, const Bytes& bytes) {
    constexpr double LARGEST = std::numeric_limits<float>::max();
    const std::string dtype = spec.dtype->name;
    if (dtype == "float32") return check_range<float>(path, bytes, -LARGEST, LARGEST, "a finite number");
    if (!spec.high) return;
    const auto high = static_cast<double>(*spec.high);
    const std::string expected = "an index from 0 to " + std::to_string(*spec.high);
    if (dtype == "int64") return check_range<std::int64_t>(path, bytes, 0, high, expected);
    if (dtype == "int32") return check_range<std::int32_t>(path, bytes, 0, high, expected);
    check_range<std::uint8_t>(path, bytes, 0, high, expected);
}

inline Bytes read_npy(const fs::path& path, const TensorSpec& spec) {
    std::ifstream file(path, std::ios::binary);
    if (!file) fail(path, "file", "input " + spec.name, "no readable file");
    const std::string header = read_header(path, file);
    const std::string dtype = header_field(path, header, "descr", "'([^']*)'");
    if (dtype != spec.dtype->npy) fail(path, "descr", std::string(spec.dtype->npy) + " (" + spec.dtype->name + ")", dtype);
    header_field(path, header, "fortran_order", "(False)");
    const Shape shape = parse_shape(header_field(path, header, "shape", "\\(([0-9, ]*)\\)"));
    if (shape != spec.shape) fail(path, "shape", text(spec.shape), text(shape));

    const std::uint64_t found = fs::file_size(path) - static_cast<std::uint64_t>(file.tellg());
    if (found != spec.bytes()) fail(path, "data", std::to_string(spec.bytes()) + " bytes", std::to_string(found));
    Bytes bytes(spec.bytes());
    if (!file.read(bytes.data(), static_cast<std::streamsize>(found))) fail(path, "data", "readable bytes", "an error");
    check_values(path, spec, bytes);
    return bytes;
}

// Under a temporary name first, so that no reader meets half a file.
inline void write_npy(const fs::path& path, const TensorSpec& spec, const char* data) {
    std::string header = "{'descr': '" + std::string(spec.dtype->npy) + "', 'fortran_order': False, 'shape': " +
                         text(spec.shape) + ", }";
    header.append(63 - (10 + header.size()) % 64, ' ').push_back('\n');  // after 10 bytes; data begin at a multiple of 64
    const fs::path temporary = path.string() + ".tmp";
    std::ofstream file(temporary, std::ios::binary);
    file << "\x93NUMPY\x01" << '\0' << static_cast<char>(header.size() & 0xff) << static_cast<char>(header.size() >> 8) << header;
    file.write(data, static_cast<std::streamsize>(spec.bytes()));
    file.close();
    if (!file) {
        fs::remove(temporary);
        fail(temporary, "data", std::to_string(spec.bytes()) + " bytes written", "an error (is the disk full?)");
    }
    fs::rename(temporary, path);
}
