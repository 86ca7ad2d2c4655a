import type { Logger } from "../src/logger.js";

/** A logger for tests that says nothing. */
export const quiet: Logger = { debug() {}, info() {}, warn() {}, error() {} };
