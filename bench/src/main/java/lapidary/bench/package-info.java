/** JMH benchmarks of the engine: {@code java -jar target/benchmarks.jar}. */
package lapidary.bench;
