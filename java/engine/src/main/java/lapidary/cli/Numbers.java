package lapidary.cli;

import picocli.CommandLine;

/** Numbers as Python's int and float read them, and YAML 1.1: single underscores between digits count for nothing. */
final class Numbers {
    private Numbers() {}

    /** Before a command's options are read; it holds for the commands below it, too. */
    static void readBy(CommandLine command) {
        command.registerConverter(int.class, text -> Integer.valueOf(plain(text)));
        command.registerConverter(Integer.class, text -> Integer.valueOf(plain(text)));
        command.registerConverter(long.class, text -> Long.valueOf(plain(text)));
        command.registerConverter(Long.class, text -> Long.valueOf(plain(text)));
        command.registerConverter(double.class, text -> Double.valueOf(plain(text)));
        command.registerConverter(Double.class, text -> Double.valueOf(plain(text)));
    }

    private static String plain(String number) {
        return number.replaceAll("(?<=\\d)_(?=\\d)", "");
    }
}
