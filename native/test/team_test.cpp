// Many small works one after another, with and without pauses that let the helpers fall asleep, and teams that end at once: every
// piece must be done once, by the time run() returns. A build with -fsanitize=thread tells of races:
//     c++ -std=c++17 -O1 -g -fsanitize=thread -I native/cpu native/test/team_test.cpp native/cpu/team.cpp -pthread
#include "team.h"

#include <chrono>
#include <cstdio>
#include <random>

namespace {

int check(kt::Team& team, int64_t pieces, int64_t work) {
    std::vector<int64_t> done(static_cast<size_t>(pieces));  // not atomic: run() orders what the pieces wrote
    const auto piece = [&](int64_t p) {
        for (int64_t i = 0; i < work; i++) done[static_cast<size_t>(p)] += p + 1;
    };
    team.run([](const void* w, int64_t p) { (*static_cast<const decltype(piece)*>(w))(p); }, &piece, pieces);
    int failures = 0;
    for (int64_t p = 0; p < pieces; p++) failures += done[static_cast<size_t>(p)] != work * (p + 1);
    return failures;
}

}  // namespace

int main() {
    std::mt19937 random(1);
    int failures = 0;
    for (int helpers : {0, 1, 3}) {
        kt::Team team(helpers);
        for (int i = 0; i < 20000; i++) {
            failures += check(team, 1 + random() % 7, 1 + random() % 50);
            // Longer and shorter than helpers watch for.
            if (i % 400 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 500));
        }
    }
    for (int i = 0; i < 500; i++) {
        kt::Team team(2);
        if (i % 2 == 0) failures += check(team, 3, 1);
    }
    std::printf("%d failures\n", failures);
    return failures != 0;
}
