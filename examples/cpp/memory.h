// What a network with a memory is given of earlier frames, and what is kept of it: docs/temporal.md says the same in words.
#pragma once

#include <array>
#include <cmath>
#include <cstdio>
#include <deque>
#include <map>
#include <nlohmann/json.hpp>

#include "npy.h"

using nlohmann::json;

template <class T>
T field(const fs::path& path, const json& object, const std::string& key, const std::string& expected) {
    if (!object.contains(key)) fail(path, key, expected, "none");
    try {
        return object[key].get<T>();
    } catch (const json::exception&) {
        fail(path, key, expected, object[key].dump());
    }
}

inline json read_json(const fs::path& path, const std::string& expected) {
    std::ifstream file(path);
    if (!file) fail(path, "file", expected, "no readable file");
    const json content = json::parse(file, nullptr, false);
    if (content.is_discarded()) fail(path, "content", "JSON", "something else (truncated?)");
    return content;
}

// When and where the car was; without a pose (null in the file) nothing is remembered.
struct CarFrame {
    using Pose = std::array<std::array<double, 4>, 4>;
    std::string drive;
    std::int64_t timestamp_ns = 0;
    std::optional<Pose> global_T_ego;

    // {"drive": "...", "timestamp_ns": 0, "global_T_ego": [[4 numbers] x 4] or null}; times in one clock, metres
    static CarFrame read(const fs::path& path) {
        const json content = read_json(path, "time and pose of a frame");
        CarFrame frame{content.contains("drive") ? field<std::string>(path, content, "drive", "a text") : "vehicle",
                       field<std::int64_t>(path, content, "timestamp_ns", "nanoseconds"), std::nullopt};
        if (!content.contains("global_T_ego")) fail(path, "global_T_ego", "a 4 x 4 matrix or null", "none");
        const json& pose = content["global_T_ego"];
        if (pose.is_null()) return frame;
        const bool square = pose.size() == 4 && std::all_of(pose.begin(), pose.end(), [](const json& row) { return row.size() == 4; });
        if (!square) fail(path, "global_T_ego", "a 4 x 4 matrix", pose.dump());
        frame.global_T_ego = field<Pose>(path, content, "global_T_ego", "a 4 x 4 matrix");
        return frame;
    }
};

// The car's own motion on the ground: x and y in the earlier frame are affine in x and y of this one.
struct GroundMotion {
    double xx, xy, x, yx, yy, y;
};

// Of rows r0, r1 and columns c0, c1.
inline double minor(const CarFrame::Pose& pose, int r0, int r1, int c0, int c1) {
    return pose[r0][c0] * pose[r1][c1] - pose[r0][c1] * pose[r1][c0];
}

// Of the 3 x 3 part.
inline double determinant(const CarFrame::Pose& p) {
    return p[0][0] * minor(p, 1, 2, 1, 2) - p[0][1] * minor(p, 1, 2, 0, 2) + p[0][2] * minor(p, 1, 2, 0, 1);
}

inline GroundMotion before_T_now(const CarFrame::Pose& before, const CarFrame::Pose& now) {
    // rows 0 and 1 of the inverse of the earlier pose's 3 x 3 part, by cofactors
    const auto& b = before;
    const double size = determinant(b);
    const double inverse[2][3] = {
        {minor(b, 1, 2, 1, 2) / size, -minor(b, 0, 2, 1, 2) / size, minor(b, 0, 1, 1, 2) / size},
        {-minor(b, 1, 2, 0, 2) / size, minor(b, 0, 2, 0, 2) / size, -minor(b, 0, 1, 0, 2) / size}};

    const auto turned = [&](int row, int column) {
        double sum = 0;
        for (int k = 0; k < 3; ++k) sum += inverse[row][k] * (now[k][column] - (column == 3 ? b[k][3] : 0.0));
        return sum;
    };
    return {turned(0, 0), turned(0, 1), turned(0, 3), turned(1, 0), turned(1, 1), turned(1, 3)};
}

inline bool usable(const CarFrame& frame) {
    if (!frame.global_T_ego) return false;
    for (const auto& row : *frame.global_T_ego) {
        if (!std::all_of(row.begin(), row.end(), [](double value) { return std::isfinite(value); })) return false;
    }
    return std::abs(determinant(*frame.global_T_ego)) > 1e-6;
}

// The maps that the network gave for earlier frames of one drive, the newest first.
class Memory {
   public:
    static constexpr float OUTSIDE = 2.0f;  // a place beyond every map, where -1 and 1 are its borders

    std::map<std::string, int> resets;  // reason: how often it started over

    Memory(const fs::path& path, const json& sidecar, const std::vector<TensorSpec>& inputs) {
        const json config = field<json>(path, field<json>(path, sidecar, "model_config", "an object"), "memory", "an object");
        const json grid = field<json>(path, config, "grid", "an object");
        const auto x_range = field<std::array<double, 2>>(path, grid, "x_range_m", "two numbers");
        const auto y_range = field<std::array<double, 2>>(path, grid, "y_range_m", "two numbers");
        x_min_m_ = x_range[0], y_min_m_ = y_range[0], cell_m_ = field<double>(path, grid, "cell_m", "a number");
        const json limits = config.contains("limits") && config["limits"].is_object() ? config["limits"] : json::object();
        max_age_s_ = limits.value("max_age_s", 2.0), max_speed_mps_ = limits.value("max_speed_mps", 60.0);

        for (const TensorSpec& spec : inputs) {
            if (spec.name.rfind("memory.", 0) == 0) buffers_[spec.name] = Bytes(spec.bytes());
            if (spec.name == "memory.maps") shape_ = spec.shape;
        }
        if (shape_.size() != 5 || shape_[0] != 1 || buffers_.size() != 4) {
            fail(path, "inputs", "memory.maps (1, K, C, Y, X), memory.grid, memory.present, memory.age", text(shape_));
        }
    }

    // Fills the four inputs for a frame; false where the car's past says nothing about it.
    bool recall(const CarFrame& now) {
        for (auto& [name, bytes] : buffers_) std::fill(bytes.begin(), bytes.end(), '\0');
        auto* places = reinterpret_cast<float*>(buffers_["memory.grid"].data());
        std::fill(places, places + slots() * cells() * 2, OUTSIDE);
        const std::string reason = known_.empty() ? "" : reset_reason(known_.front().frame, now);
        if (!reason.empty()) ++resets[reason];
        if (known_.empty() || !reason.empty()) return false;

        std::size_t slot = 0;
        for (const Kept& one : known_) {
            if (!reset_reason(one.frame, now).empty()) continue;
            auto* maps = reinterpret_cast<float*>(buffers_["memory.maps"].data());
            std::copy(one.map.begin(), one.map.end(), maps + slot * one.map.size());
            write_places(before_T_now(*one.frame.global_T_ego, *now.global_T_ego), places + slot * cells() * 2);
            buffers_["memory.present"][slot] = 1;
            reinterpret_cast<float*>(buffers_["memory.age"].data())[slot] = static_cast<float>(age_s(one.frame, now));
            ++slot;
        }
        return true;
    }

    // Remembers what the network gave for a frame; a map that is not finite is forgotten with all before it.
    void keep(const CarFrame& now, const float* map) {
        std::vector<float> values(map, map + shape_[2] * cells());
        if (!std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); })) {
            ++resets["not finite"];
            known_.clear();
            return;
        }
        const auto stale = [&](const Kept& one) { return !reset_reason(one.frame, now).empty(); };
        known_.erase(std::remove_if(known_.begin(), known_.end(), stale), known_.end());
        if (!usable(now)) return;
        known_.push_front({now, std::move(values)});
        while (known_.size() > slots()) known_.pop_back();
    }

    char* input(const std::string& name) { return buffers_.at(name).data(); }
    bool has(const std::string& name) const { return buffers_.count(name) != 0; }

   private:
    struct Kept {
        CarFrame frame;
        std::vector<float> map;  // (C, Y, X)
    };

    std::size_t slots() const { return static_cast<std::size_t>(shape_[1]); }
    std::size_t cells() const { return static_cast<std::size_t>(shape_[3] * shape_[4]); }
    static double age_s(const CarFrame& before, const CarFrame& now) { return (now.timestamp_ns - before.timestamp_ns) * 1e-9; }

    // Why what was seen before says nothing about now; empty where it does.
    std::string reset_reason(const CarFrame& before, const CarFrame& now) const {
        if (before.drive != now.drive) return "new drive";
        if (!usable(before) || !usable(now)) return "no pose";
        const double seconds = age_s(before, now);
        if (seconds <= 0) return "order";
        if (seconds > max_age_s_) return "age";
        const auto &b = *before.global_T_ego, &n = *now.global_T_ego;
        const double moved_m = std::hypot(n[0][3] - b[0][3], n[1][3] - b[1][3], n[2][3] - b[2][3]);
        return moved_m > max_speed_mps_ * seconds ? "pose jump" : "";
    }

    // Where the centre of each cell lay in the earlier map: -1 and 1 are its outer borders.
    void write_places(const GroundMotion& motion, float* places) const {
        const std::int64_t rows = shape_[3], columns = shape_[4];
        const auto normalised = [&](double metres, double low_m, std::int64_t size) {
            const double place = (metres - low_m) / cell_m_ / static_cast<double>(size) * 2 - 1;
            return static_cast<float>(std::clamp(place, -double{OUTSIDE}, double{OUTSIDE}));
        };
        for (std::int64_t row = 0; row < rows; ++row) {
            const double y = y_min_m_ + (static_cast<double>(row) + 0.5) * cell_m_;
            for (std::int64_t column = 0; column < columns; ++column) {
                const double x = x_min_m_ + (static_cast<double>(column) + 0.5) * cell_m_;
                *places++ = normalised(motion.xx * x + motion.xy * y + motion.x, x_min_m_, columns);
                *places++ = normalised(motion.yx * x + motion.yy * y + motion.y, y_min_m_, rows);
            }
        }
    }

    double x_min_m_, y_min_m_, cell_m_, max_age_s_, max_speed_mps_;
    Shape shape_;  // of memory.maps: (1, K, C, Y, X)
    std::map<std::string, Bytes> buffers_;
    std::deque<Kept> known_;
};
