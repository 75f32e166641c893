/**
 * The Hugging Face Hub: finds repositories, downloads into the cache that huggingface_hub uses too, uploads. Only
 * {@code java.net.http}. Nothing that a server says is trusted: names, sizes, checksums and redirects are checked. The
 * token goes to the Hub's own address alone and into no message.
 */
package lapidary.hub;
