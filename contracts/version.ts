/** The version of every program of this repository; a test compares it with package.json. */
export const version = "0.1.0";
