package lapidary.hub;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.List;

/**
 * One state of a repository.
 *
 * @param repo which
 * @param revision as it was asked for: a branch, a tag or a commit
 * @param id the commit it stands for
 * @param files all of them; from the cache without the Hub, those that are known
 * @param card what the head of the README says, as the Hub reads it; an empty object where there is none
 * @param offline the Hub was not asked: files that are missing cannot be fetched
 */
record Commit(RepoId repo, String revision, String id, List<RepoFile> files, JsonNode card, boolean offline) {
    Commit {
        files = List.copyOf(files);
    }
}
